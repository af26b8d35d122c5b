from emseg.membrane.synthetic.drawing.window import Drawing, draw_window

__all__ = ["Drawing", "draw_window"]
