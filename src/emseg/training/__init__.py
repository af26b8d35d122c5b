"""What trainings share, membrane networks by Lightning and detectors by mmengine alike.

devices          the device and the precision of a training
memory_use       peak memory, and one clear error where memory does not suffice
steps            what all plans have; random draws as functions of seed and step, so that resumed equals uninterrupted
work_folder      settings, curves, checkpoint and weights of one training on disk
lightning_steps  a plan's steps run by Lightning in a work folder
"""
