"""What the columns of the tables mean that pass between packing and drawing."""

# A cell, beside its capsule: grey, strength of its grain, where it reads the texture, its pool of vesicles, its
# reticulum.
CELL_GREY, CELL_GRAIN, CELL_SHIFT_Y, CELL_SHIFT_X, POOL_Y, POOL_X, POOL_RADIUS, CELL_RETICULUM = range(8)
N_CELL = 8
# A mitochondrion: an ellipse, its bend, the period and phase of its cristae, the number they are hashed from.
MITO_Y, MITO_X, MITO_AXIS_Y, MITO_AXIS_X, MITO_A, MITO_B, MITO_BEND, MITO_PERIOD, MITO_PHASE, MITO_KEY = range(10)
N_MITO = 10
# The periodic texture of cytoplasm.
TEXTURE_SIZE = 512
TEXTURE_NM = 4.0
