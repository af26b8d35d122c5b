from emseg.membrane.networks.build_network import build_network, build_refined, receptive_field
from emseg.membrane.networks.membrane_network import REFINING_CHANNELS, MembraneNetwork, RefinedNetwork
from emseg.membrane.networks.network_design import ARCHITECTURES, ENCODERS, NetworkDesign, attention_options
from emseg.membrane.networks.network_files import load_network, load_network_weights, network_header, save_network

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
