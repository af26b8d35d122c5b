from emseg.membrane.networks.build import build_network
from emseg.membrane.networks.design import ARCHITECTURES, ENCODERS, NetworkDesign
from emseg.membrane.networks.network import MembraneNetwork
from emseg.membrane.networks.receptive_field import ReceptiveField, receptive_field
from emseg.membrane.networks.refinement import RefinedNetwork, build_refined
from emseg.membrane.networks.saving import load_network, load_network_weights, save_network

__all__ = [
    "ARCHITECTURES",
    "ENCODERS",
    "MembraneNetwork",
    "NetworkDesign",
    "ReceptiveField",
    "RefinedNetwork",
    "build_network",
    "build_refined",
    "load_network",
    "load_network_weights",
    "receptive_field",
    "save_network",
]
