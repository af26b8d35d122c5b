from emseg.membrane.networks.build_network import build_network, build_refined, receptive_field
from emseg.membrane.networks.membrane_network import MembraneNetwork
from emseg.membrane.networks.network_design import ARCHITECTURES, ENCODERS, NetworkDesign, attention_options
from emseg.membrane.networks.network_files import load_network, load_network_weights, network_header, save_network
from emseg.membrane.networks.refinement import REFINING_CHANNELS, RefinedNetwork

__all__ = [
    "ARCHITECTURES",
    "ENCODERS",
    "REFINING_CHANNELS",
    "MembraneNetwork",
    "NetworkDesign",
    "RefinedNetwork",
    "attention_options",
    "build_network",
    "build_refined",
    "load_network",
    "load_network_weights",
    "network_header",
    "receptive_field",
    "save_network",
]
