from emseg.membrane.synthetic.packing.cells import Cells, pack_cells, packing_scale_nm

__all__ = ["Cells", "pack_cells", "packing_scale_nm"]
