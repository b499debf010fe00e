"""How large a network is, and where: what a compressed model is compared with its teacher by."""

from typing import Any

from frugalclip.towers.base import Side, Tower
from frugalclip.towers.dual import DualEncoder


def parameters_by_side(network: DualEncoder) -> dict[str, int]:
    """Parameters of the image tower, of the text tower without its token embedding, and of that embedding."""
    embedding = network.text.embedding_parameters
    return {
        "image": sum(p.numel() for p in network.image.parameters()),
        "text": sum(p.numel() for p in network.text.parameters()) - embedding,
        "token_embedding": embedding,
    }


def tower_parameters(network: DualEncoder) -> int:
    """Parameters of both towers, token embedding apart."""
    parameters = parameters_by_side(network)
    return parameters["image"] + parameters["text"]


def network_size(network: DualEncoder) -> dict[str, Any]:
    """Parameters, arithmetic and sizes of the layers, as JSON.

    Returns:
        `parameters` as `parameters_by_side` has them; `towers` without the token embedding and `all` with it;
        `tokens` of the vocabulary;
        `gflops` forward for one image and for one text of full length; `layers` of each tower: channels, and
        heads and neurons of every layer, where the tower has them.
    """
    c, parameters = network.config, parameters_by_side(network)
    layers: dict[Side, dict[str, Any]] = {}
    towers: dict[Side, Tower] = {"image": network.image, "text": network.text}
    for side, tower in towers.items():
        if (units := tower.units) is not None:
            own = units.config
            layers[side] = {"width": own.width, "heads": list(own.heads), "neurons": list(own.neurons)}
    return {
        "parameters": parameters,
        "towers": tower_parameters(network),
        "all": sum(parameters.values()),
        "tokens": network.vocabulary,
        "bytes": 4 * sum(parameters.values()),
        "gflops": {
            "image": c.image.forward_gflops(tokens=c.image.tokens),
            "text": c.text.forward_gflops(tokens=network.context),
        },
        "layers": layers,
    }
