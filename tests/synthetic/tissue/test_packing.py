"""The packing: capsules that never overlap, and cells that belong to the nearest of them."""

from dataclasses import replace

import numpy as np
import pytest
from reference.capsule_tissue import capsule_gap, distance_to_boundary, nearest_capsule

from emseg.synthetic.tissue import ISBI_LIKE, URISC_LIKE, Imaging, synthesize_tissue
from emseg.synthetic.tissue import tissue_kernels as kernels
from emseg.synthetic.tissue.cells import pack_cells
from emseg.synthetic.tissue.window import LARGEST_STRETCH, node_fields, warp_heights_nm

SIDE_NM = 3000.0
STILL = replace(ISBI_LIKE, waviness=0.0)  # no warp: the packing's plane is the section's plane


def pack(tissue=STILL, seed=5, low=(0.0, 0.0), high=(SIDE_NM, SIDE_NM)):
    return pack_cells(seed, tissue, Imaging(), low, high, 400.0)


def test_capsules_never_overlap():
    site = pack(replace(STILL, elongation=3.0)).site
    for index, p in enumerate(site):
        around = np.hypot(*(site[:, :2] - p[:2]).T) < p[4] + p[5] + site[:, 4] + site[:, 5]
        for other in np.flatnonzero(around):
            if other > index:
                # The samples along the axes leave the gap a little too large, never too small.
                assert capsule_gap(p, site[other]) > -1e-6


def test_the_packing_does_not_depend_on_the_box_it_is_asked_for():
    whole = pack(high=(6000.0, 6000.0))
    part = pack(low=(2500.0, 1900.0), high=(3100.0, 2400.0))
    where = {key: row for row, key in enumerate(whole.key)}
    assert len(part.key) > 20
    for row, key in enumerate(part.key):
        if key in where:  # the part's margin may reach past the whole's
            np.testing.assert_array_equal(part.site[row], whole.site[where[key]])
            np.testing.assert_array_equal(part.look[row], whole.look[where[key]])
    inside = np.all((whole.site[:, :2] > [2500, 1900]) & (whole.site[:, :2] < [3100, 2400]), axis=1)
    assert set(whole.key[inside]) <= set(part.key)


def test_cell_keys_are_unique_and_positive():
    key = pack().key
    assert len(np.unique(key)) == len(key)
    assert key.min() > 0


def test_every_place_belongs_to_the_nearest_capsule():
    picture = synthesize_tissue((300, 280), pixel_size_nm=4.0, seed=5, tissue=STILL)
    cells = pack()
    y, x = np.meshgrid((np.arange(300) + 0.5) * 4.0, (np.arange(280) + 0.5) * 4.0, indexing="ij")
    expected = cells.key[nearest_capsule(y, x, cells.site)]
    free = ~picture.membrane
    assert free.mean() > 0.5
    np.testing.assert_array_equal(picture.cell_keys[picture.cells][free], expected[free])


def test_coarse_pixels_meet_the_same_cells_though_many_are_near():
    tissue = replace(STILL, cell_diameter_nm=100.0, membrane_thickness_nm=8.0)
    cells = pack(tissue, high=(2000.0, 2000.0))
    picture = synthesize_tissue((31, 31), pixel_size_nm=64.0, seed=5, tissue=tissue)
    y, x = np.meshgrid((np.arange(31) + 0.5) * 64.0, (np.arange(31) + 0.5) * 64.0, indexing="ij")
    expected = cells.key[nearest_capsule(y, x, cells.site)]
    free = ~picture.membrane
    np.testing.assert_array_equal(picture.cell_keys[picture.cells][free], expected[free])


def test_membrane_is_all_within_half_a_thickness_of_a_boundary():
    pixel_size_nm = 2.0
    picture = synthesize_tissue((500, 500), pixel_size_nm=pixel_size_nm, seed=5, tissue=STILL)
    cells = pack()
    y, x = np.meshgrid((np.arange(500) + 0.5) * pixel_size_nm, (np.arange(500) + 0.5) * pixel_size_nm, indexing="ij")
    distance_nm = pixel_size_nm * distance_to_boundary(nearest_capsule(y, x, cells.site))
    expected = distance_nm < 0.5 * STILL.membrane_thickness_nm
    interior = np.s_[30:-30, 30:-30]  # boundaries outside the raster are unknown to the oracle
    agreement = (expected & picture.membrane)[interior].sum() / (expected | picture.membrane)[interior].sum()
    assert agreement > 0.93
    sure = np.abs(distance_nm - 0.5 * STILL.membrane_thickness_nm) > 3.0
    assert (expected == picture.membrane)[interior][sure[interior]].mean() > 0.995


@pytest.mark.parametrize("large_cells", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("elongation", [0.0, 1.6, 3.0])
def test_the_mean_cell_has_the_diameter_asked_for(large_cells, elongation):
    tissue = replace(URISC_LIKE, large_cells=large_cells, elongation=elongation, cell_diameter_nm=500.0)
    side_nm = 40_000.0
    counts = []
    for seed in (11, 12):
        site = pack(tissue, seed=seed, high=(side_nm, side_nm)).site
        counts.append(np.all((site[:, :2] >= 0.0) & (site[:, :2] < side_nm), axis=1).sum())
    assert np.sqrt(4.0 / np.pi * side_nm**2 / np.mean(counts)) == pytest.approx(500.0, rel=0.05)


def test_large_cells_widen_the_range_of_sizes():
    def spread(large_cells):
        radius = pack(replace(STILL, large_cells=large_cells), high=(12_000.0, 12_000.0)).site[:, 5]
        return np.percentile(radius, 99) / np.median(radius)

    assert spread(1.0) > 1.5 * spread(0.0)


def test_mitochondria_lie_inside_their_capsule():
    cells = pack(replace(STILL, cell_diameter_nm=600.0, mitochondria_per_um2=6.0), high=(8000.0, 8000.0))
    owner = np.repeat(np.arange(len(cells.site)), np.diff(cells.mito_start))
    assert len(owner) > 40
    angle = np.linspace(0.0, 2.0 * np.pi, 90)
    for cell, row in zip(owner, cells.mito, strict=True):
        y, x, axis_y, axis_x, a, b = row[:6]
        u, v = a * np.cos(angle), b * np.sin(angle)
        rim_y, rim_x = y + u * axis_y - v * axis_x, x + u * axis_x + v * axis_y
        cy, cx, ay, ax, half_length, radius = cells.site[cell]
        along = np.clip((rim_y - cy) * ay + (rim_x - cx) * ax, -half_length, half_length)
        depth = radius - np.hypot(rim_y - cy - along * ay, rim_x - cx - along * ax)
        assert depth.min() > 0.5 * STILL.membrane_thickness_nm


@pytest.mark.parametrize("tissue", [URISC_LIKE, replace(ISBI_LIKE, cell_diameter_nm=100.0)])
def test_the_warp_never_folds_and_stretches_no_more_than_the_search_allows(tissue):
    tissue = replace(tissue, waviness=1.0)
    fields = node_fields(7, (-150, 900), (300, 300), tissue, Imaging())
    slopes = fields[..., [kernels.DYY, kernels.DYX, kernels.DXY, kernels.DXX]].reshape(-1, 2, 2)
    assert np.linalg.det(slopes).min() > 0.05
    assert np.linalg.svd(slopes, compute_uv=False).max() < LARGEST_STRETCH
    rows = np.arange(-150, 150)[:, None] * kernels.NODE_NM
    assert np.abs(fields[..., kernels.YW] - rows).max() < sum(warp_heights_nm(tissue))


def test_tilt_and_shading_have_the_deviations_asked_for():
    imaging = Imaging(tilt_degrees=10.0, unevenness=0.03, section_thickness_nm=50.0)
    tilts, shades = [], []
    for place in range(200):  # patches of few places each, further apart than the longest waves
        fields = node_fields(7, (300 * place, -500 * place), (30, 30), URISC_LIKE, imaging)
        tilts.append(np.arctan(fields[..., kernels.SMEAR] / 50.0))
        shades.append(fields[..., kernels.SHADE])
    assert np.degrees(np.sqrt(np.mean(np.square(tilts)))) == pytest.approx(10.0, rel=0.05)
    assert np.std(shades) == pytest.approx(0.03, rel=0.15)
