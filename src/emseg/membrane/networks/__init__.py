from emseg.membrane.networks.build import build_network
from emseg.membrane.networks.design import ARCHITECTURES, ENCODERS, NetworkDesign
from emseg.membrane.networks.network import MembraneNetwork

__all__ = ["ARCHITECTURES", "ENCODERS", "MembraneNetwork", "NetworkDesign", "build_network"]
