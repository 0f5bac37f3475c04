"""Gate and up may share a centroid, gate's, by the oracle or by a router."""

import pytest
import torch
from actsparse.codebooks.codebook import Codebook
from actsparse.codebooks.packing import pack, unpack
from actsparse.codebooks.pattern import CodebookPattern, Signed
from actsparse.codebooks.router import Router
from actsparse.methods.mitigations.none import NoMitigation
from actsparse.methods.sparsify import Scheme, sparsify
from actsparse.models.sites import find_sites
from tiny_models import load_tiny_model, save_tiny_model, token_windows

LIMIT, FFN = 0.05, ["gate_proj", "up_proj", "down_proj"]


@pytest.mark.parametrize("architecture", ["llama", "phi3"])
@pytest.mark.parametrize("routed", [False, True])
def test_up_takes_the_centroid_of_gate(tmp_path, architecture, routed):
    model = load_tiny_model(save_tiny_model(architecture, tmp_path))
    sites = find_sites(model, FFN, "output")
    generator = torch.Generator().manual_seed(0)
    codebooks = {
        site.projection: Codebook(
            pack(torch.rand(1, 1, 4, site.width, generator=generator) < 0.7), None, site.width, []
        )
        for site in sites
    }
    thresholds = {name: {f"layer_{site.layer}": LIMIT for site in sites} for name in FFN}
    routers = None
    if routed:
        routers = {
            f"{site.projection}.layer_{site.layer}": Router(
                (torch.randn(4, model.config.hidden_size, generator=generator),), torch.zeros(4), 1
            )
            for site in sites
            if site.projection != "up_proj"
        }
        with pytest.raises(ValueError, match="no router was trained"):
            CodebookPattern(thresholds, codebooks, routers=routers).check(sites[1])
    pattern = CodebookPattern(thresholds, codebooks, routers=routers, joint=True)
    scheme = Scheme("output", tuple(FFN), Signed(), pattern, NoMitigation())
    dense, pruned, hidden = {}, {}, []

    def keep(place, site):
        # A clone, because parts of a fused layer are written into one output.
        return lambda module, args, y: place.update({site.projection: site.part(y)[0].clone()})

    first = [site for site in sites if site.layer == 0]
    hooks = [site.module.register_forward_hook(keep(dense, site)) for site in first]
    hooks.append(first[0].block.register_forward_pre_hook(lambda module, args: hidden.append(args[0][0])))
    with torch.inference_mode(), sparsify(model, scheme):
        hooks += [site.module.register_forward_hook(keep(pruned, site)) for site in first]
        model(token_windows(1, 40))
    for hook in hooks:
        hook.remove()

    active = {name: dense[name].abs() >= LIMIT for name in FFN}
    centroids = unpack(codebooks["gate_proj"].centroids[0, 0], first[0].width)
    nearest = (active["gate_proj"].float() @ centroids.float().T).argmax(1)
    index = routers["gate_proj.layer_0"].choose(hidden[0])[:, 0] if routed else nearest
    for name in FFN[:2]:
        assert torch.equal(pruned[name] != 0, active[name] & centroids[index])
    # Down chooses for itself.
    assert not torch.equal(pruned["down_proj"] != 0, active["down_proj"])
    found = pattern.measured()["coverage"]
    assert routed == (found["gate_proj"].get("accuracy", 1) < 1)
    if routed:
        assert found["up_proj"]["accuracy"] == found["gate_proj"]["accuracy"]
        assert found["up_proj"]["router_parameters"] == 0 < found["gate_proj"]["router_parameters"]
