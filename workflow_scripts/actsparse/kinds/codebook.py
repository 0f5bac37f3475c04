"""codebook: a token's thresholded pattern is replaced by its overlap with a centroid (arXiv 2507.14179)."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actsparse.artifacts import Need
from actsparse.codebooks import ALGORITHMS
from actsparse.columns import Column, ExtraRows
from actsparse.errors import ConfigError
from actsparse.jobs.files import digest_of, read_json
from actsparse.kinds.keys import FEED_FORWARD, FRACTION, projections
from actsparse.kinds.kind import Kind, Shape, require_calibration, require_file, slug_word
from actsparse.registry import Member
from actsparse.wording import told_windows

if TYPE_CHECKING:
    from actsparse.methods.sparsify import Scheme

# The benchmark whose text centroids see only as published, and what its patterns are called otherwise.
EVALUATED_TEXT = "perplexity"
HELD_OUT = "-held_out"
HIGHER = (
    "recall",
    "precision",
    "energy",
    "accuracy",
    "held_out_recall",
    "held_out_precision",
    "held_out_energy",
)
COVERAGE = tuple(
    Column(name, heading, better="higher" if name in HIGHER else None)
    for name, heading in {
        "recall": None,
        "precision": None,
        "baseline_recall": "recall of one centroid",
        "energy": "energy kept",
        "accuracy": "router accuracy",
        "fitting_recall": "recall of fitted patterns",
        "held_out_recall": "recall of held-out patterns",
        "held_out_precision": "precision of held-out patterns",
        "held_out_energy": "energy kept of held-out patterns",
        "held_out_baseline_recall": "recall of held-out patterns by one centroid",
        "index_bits": "index bits",
        "centroid_mb": "centroids (MB)",
        "router_parameters": "router parameters",
        "router_multiply_adds": "router multiply-adds",
        "ffn_multiply_adds": "FFN multiply-adds",
    }.items()
)


def _choice(description: str, default: str, *others: str) -> dict[str, Any]:
    return {"description": description, "enum": [default, *others], "default": default}


class Codebook(Kind):
    """K binary centroids for the patterns of a projection; a token keeps what its centroid covers."""

    word = "codebook"
    description = "Each token's thresholded pattern is replaced by its overlap with a centroid."
    keys = {
        "threshold": {"description": "Sparsity of the thresholded patterns.", **FRACTION},
        "clusters": {"description": "Number of centroids, K.", "type": "integer", "minimum": 1},
        "centroid_sparsity": {"description": "Part of the neurons that a centroid leaves out.", **FRACTION},
        "allocation": _choice(
            "Centroids of every layer and projection leave out that part (uniform), or it is the mean over "
            "all neurons of what costs the same part of the energy everywhere (by_energy).",
            "uniform",
            "by_energy",
        ),
        "algorithm": {
            "description": "How the centroids are learned.",
            "type": "string",
            "default": "coverage",
        },
        "patterns_of": _choice(
            "Whose patterns the centroids are fitted to: the dense model's, or those of the model with its "
            "thresholds at work, whose layers see what earlier thresholds have left, as published.",
            "dense",
            "thresholded",
        ),
        "importance": _choice(
            "What weighted active neurons count by (activation_aware, spherical): their magnitude, or their "
            "expected contribution to the output of the feed-forward network.",
            "magnitude",
            "contribution",
        ),
        "groups": {
            "description": "Product codebook, equal groups of neighbouring neurons with K centroids each.",
            "type": "integer",
            "minimum": 1,
            "default": 1,
        },
        "seeding": {
            "description": "What the centroids start from; random by default.",
            "enum": ["random", "kmeans++", "stratified"],
        },
        "seed_sparsity": {
            "description": (
                "Patterns of a lower sparsity than this are no centroid's start; all may be by default."
            ),
            **FRACTION,
        },
        "validation": {
            "description": (
                "Share of the fitting tokens, the last ones, that are held out; centroids are updated as "
                "long as they cover more of them. None by default."
            ),
            "type": "number",
            "exclusiveMinimum": 0,
            "exclusiveMaximum": 1,
        },
        "replace_below": {
            "description": (
                "In the end, a centroid that is nearest to fewer patterns than this part of an even share is "
                "replaced by a pattern that is covered badly; none is by default."
            ),
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": 1,
        },
        "warm_up": {
            "description": (
                "Updates of spherical means, without weights, before centroids are (coverage); none by "
                "default."
            ),
            "type": "integer",
            "minimum": 1,
        },
        "balanced": {
            "description": "While fitting, a centroid takes no more than its share of the patterns.",
            "type": "boolean",
        },
        "update_power": {
            "description": (
                "Neurons weigh abs(activation) to this power when centroids are updated (activation_aware, "
                "spherical)."
            ),
            "enum": [0, 1, 2],
        },
        "assign_power": {
            "description": "The same when centroids are assigned, while fitting and at evaluation.",
            "enum": [0, 1, 2],
        },
        "prior": {
            "description": "How many average patterns a mean counts beside its members (spherical).",
            "type": "integer",
            "minimum": 0,
            "maximum": 1000,
        },
        "lost_weight": {
            "description": "Weight of a lost active neuron against a needless one (penalised).",
            "type": "integer",
            "minimum": 1,
            "maximum": 255,
        },
        "rows": {
            "description": (
                "What the artifact's loop reads (as_published): patterns (binary, by default), magnitudes, 0 "
                "under the threshold, or the signed outputs, of which those above 0 are active (raw)."
            ),
            "enum": ["binary", "magnitudes", "raw"],
        },
        "centroids": {
            "description": (
                "Given centroids, a file for each projection: the artifact's .pt or a codebook file of "
                "another study. Nothing is fitted then."
            ),
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {"type": "string"},
        },
        "as_published": {
            "description": (
                "The protocol of arXiv 2507.14179's artifact: centroids are fitted to patterns of the "
                "perplexity text in the thresholded model, and perplexity is measured on its first window "
                "alone. For its arithmetic, see algorithm as_published."
            ),
            "type": "boolean",
            "default": False,
        },
        "assignment": _choice(
            "The nearest centroid of the true pattern (oracle), or a prediction from the hidden state.",
            "oracle",
            "router",
        ),
        "router_rank": {
            "description": "Rank of the router's map; a full one by default.",
            "type": "integer",
            "minimum": 1,
        },
        "router_loss": _choice(
            "What the router is trained for, the activation that it keeps (coverage), the oracle's choice "
            "(cross_entropy) or both (mixed).",
            "mixed",
            "coverage",
            "cross_entropy",
        ),
        "combine": _choice(
            "Keep active neurons that the centroid covers (and), or all that it covers (replace).",
            "and",
            "replace",
        ),
        "joint": {
            "description": (
                "Up takes the centroid that gate was given, so that a neuron is lost to both or to neither."
            ),
            "type": "boolean",
            "default": False,
        },
        "scope": _choice(
            "One codebook for all layers of a projection, or one for each layer.", "pooled", "per_layer"
        ),
        "projections": projections(FEED_FORWARD),
    }
    required = ("threshold", "clusters", "centroid_sparsity")
    legend = "codebook (FFN outputs)"
    labels = {
        "algorithm": "",
        "scope": "",
        "allocation": "",
        "threshold": "t",
        "clusters": "k",
        "centroid_sparsity": "s",
        "groups": "g",
        "patterns_of": "",
        "importance": "",
        "seeding": "",
        "combine": "",
        "update_power": "u",
        "assign_power": "a",
        "lost_weight": "l",
        "rows": "",
        "validation": "v",
        "seed_sparsity": "from",
        "warm_up": "warm",
        "replace_below": "least",
        "assignment": "",
        "router_rank": "r",
        "router_loss": "",
    }
    legends = {
        "patterns_of": "fitted to the {} model",
        "importance": "weighed by {}",
        "router_rank": "router of rank {:g}",
        "as_published": "published protocol",
    }
    extra_rows = ExtraRows("codebooks", COVERAGE, ("model", "projection", "threshold", "centroid_sparsity"))

    @property
    def side(self) -> str:
        """Outputs are pruned."""
        return "output"

    @property
    def algorithm(self) -> Member:
        """How the centroids are learned."""
        return ALGORITHMS[self.params["algorithm"]]

    @property
    def weighs(self) -> bool:
        """Whether its fit reads magnitudes."""
        return bool(self.algorithm.says.get("weighs")) or self.params.get("rows") == "magnitudes"

    @property
    def options(self) -> dict[str, Any]:
        """Those of its parameters that only some algorithms know."""
        return {key: self.params[key] for key in self.keys if key in self.params and _algorithms_with(key)}

    @property
    def routed(self) -> list[str]:
        """The projections whose centroids routers predict: not up, where it takes that of gate."""
        joint = self.params["joint"]
        return [word for word in self.params["projections"] if not (joint and word == "up_proj")]

    @property
    def patterns_of(self) -> str:
        """Whose patterns these are; as published, those of the thresholded model."""
        return "thresholded" if self.as_published else self.params["patterns_of"]

    @property
    def patterns(self) -> str:
        """The name of the patterns that its codebook is fitted to."""
        suffixes = {
            "-thresholded": self.patterns_of == "thresholded",
            "-contribution": self.params["importance"] == "contribution",
            "-published": self.as_published,
        }
        name = "".join(suffix for suffix, wanted in suffixes.items() if wanted)
        return f"{self.params['threshold']}{name}"

    @property
    def codebook(self) -> str:
        """The name of its codebook."""
        params = self.params
        size = f"k{params['clusters']}-s{params['centroid_sparsity']}"
        if "centroids" in params:
            return f"given-{digest_of(params['centroids'])[:8]}-{size}"
        unusual = {key: params[key] for key in ("groups", "allocation") if params[key] not in (1, "uniform")}
        options = [f"-seed{params['seed']}"] if "seed" in params else []
        options += [
            f"-{self.labels.get(key, key)}{slug_word(value)}"
            for key, value in {**unusual, **self.options}.items()
        ]
        return f"{params['algorithm']}-{params['scope']}-t{self.patterns}-{size}{''.join(options)}"

    @property
    def router(self) -> str:
        """The name of its routers."""
        rank = self.params.get("router_rank", "full")
        routed = "-".join(map(slug_word, self.routed))
        at_work = "-thresholded" if self.patterns_of == "thresholded" else ""
        if "centroids" in self.params and "seed" in self.params:  # else the codebook's name has it
            at_work += f"-seed{self.params['seed']}"
        return f"{self.codebook}-{self.params['router_loss']}-r{rank}-{routed}{at_work}"

    @property
    def seeded_by(self) -> str | None:
        """The clustering, where centroids are not given, and the training of routers."""
        if self.params["assignment"] == "router":
            return "router"
        return None if "centroids" in self.params else "clustering"

    @property
    def _seed(self) -> dict[str, int]:
        """Its own seed, if it has one in place of the study's."""
        return {"seed": self.params["seed"]} if "seed" in self.params else {}

    def needs(self, slug: str) -> dict[str, Need]:
        """Return its thresholds, its codebook, with all that is needed to fit it, and its routers."""
        thresholds = Need("thresholds", str(self.params["threshold"]))
        found = {
            "thresholds": thresholds,
            "codebook": Need("codebooks", self.codebook, self._codebook_spec()),
        }
        if self.params["assignment"] == "router":
            about = {
                "thresholds": thresholds.name,
                "centroids": self.codebook,
                "training": {
                    "projections": self.routed,
                    "patterns_of": self.patterns_of,
                    "rank": self.params.get("router_rank"),
                    "loss": self.params["router_loss"],
                    **self._seed,
                },
            }
            found["routers"] = Need("routers", self.router, about)
        return found

    def _codebook_spec(self) -> dict[str, Any]:
        if "centroids" in self.params:
            return {"given": self.params["centroids"], "clusters": self.params["clusters"]}
        keys = ("clusters", "centroid_sparsity", "allocation", "algorithm", "scope", "groups")
        return {
            "patterns": self.patterns,
            "held_out": None if self.as_published else self.patterns + HELD_OUT,
            "weighs": self.weighs,
            "module": self.algorithm.module,
            "fit": {key: self.params[key] for key in keys} | {"options": self.options, **self._seed},
        }

    @property
    def modules(self) -> list[str]:
        """What evaluates codebooks; kernels are imported inside a function, where numba may be missing."""
        return [f"{__name__}:Codebook.build", "actsparse.codebooks.kernels"]

    @property
    def first_windows(self) -> int | None:
        """As published, the first window alone."""
        return 1 if self.as_published else None

    def ignores(self) -> dict[str, str]:
        """Return what says how to fit, where centroids are given, and to train routers, where none are."""
        params, found = self.params, {}
        if params["assignment"] != "router":
            found |= dict.fromkeys(("router_rank", "router_loss"), "assignment oracle trains no router")
        if self.as_published:
            found["patterns_of"] = "as published, patterns are those of the thresholded model"
        if "centroids" in params:
            fitting = {"allocation", "algorithm", "importance", "groups"}
            fitting |= {key for key in self.keys if _algorithms_with(key)}
            if params["assignment"] != "router":  # which is trained in the model of these patterns
                fitting.add("patterns_of")
            found |= dict.fromkeys(fitting, "nothing is fitted where centroids are given")
        return found

    def check(self, where: str, config: dict[str, Any], root: Path) -> None:
        """Raise ConfigError for options that do not go together, and for what is needed and missing."""
        params = self.params
        for key in self.options:
            if params["algorithm"] not in _algorithms_with(key):
                raise ConfigError(
                    f"{where}.{key}: algorithm {params['algorithm']} has no such option "
                    f"(allowed algorithms: {', '.join(_algorithms_with(key))})"
                )
        if params["joint"] and not {"gate_proj", "up_proj"} <= set(params["projections"]):
            raise ConfigError(f"{where}.joint: gate_proj and up_proj must both be among the projections")
        if params["importance"] == "contribution" and not self.algorithm.says.get("weighs"):
            raise ConfigError(
                f"{where}.importance: algorithm {params['algorithm']} weighs no neurons "
                f"(allowed algorithms: {', '.join(ALGORITHMS.that_say('weighs'))})"
            )
        if self.as_published and EVALUATED_TEXT not in config:
            raise ConfigError(
                f"{EVALUATED_TEXT}: missing (required by {where}.as_published, which fits to its text)"
            )
        if config["codebooks"]["held_out"] and EVALUATED_TEXT not in config:
            raise ConfigError(
                f"{EVALUATED_TEXT}: missing (required by codebooks.held_out, which reads its text)"
            )
        if missing := set(params["projections"]) - set(params.get("centroids", params["projections"])):
            raise ConfigError(f"{where}.centroids: no file for {', '.join(sorted(missing))}")
        for projection, path in params.get("centroids", {}).items():
            require_file(f"{where}.centroids.{projection}", path, config, root)
        require_calibration(where, config)

    def check_sizes(self, where: str, config: dict[str, Any], model: str, shape: Shape, root: Path) -> None:
        """Raise ConfigError where groups do not divide a width, or centroids outnumber the patterns."""
        if "centroids" in self.params:
            return
        groups = self.params["groups"]
        for projection, size in (("gate_proj", "intermediate_size"), ("down_proj", "hidden_size")):
            if self.touches(projection) and shape[size] % groups:
                raise ConfigError(
                    f"{where}.groups: {groups} do not divide the {shape[size]} outputs of {projection} "
                    f"of {model}"
                )
        # All windows are as many as the text has, whose length is not known yet.
        use = EVALUATED_TEXT if self.as_published else "calibration"
        text, most, layers = config[use], config["codebooks"]["patterns"], shape["num_hidden_layers"]
        if text["sequences"] is not None:
            most = min(most, text["sequences"] * text["sequence_length"] * layers)
        see = f"codebooks.patterns and {use}.sequences"
        if store := given_store(config, model, self.patterns, root):
            most, see = store["tokens"] * store["layers"], f"models.{model}.patterns"
            if self.weighs and not store["magnitudes"]:
                raise ConfigError(
                    f"models.{model}.patterns.{self.patterns}: holds no magnitudes, by which "
                    f"{self.params['algorithm']} of {where} weighs"
                )
            if self.params.get("rows") == "raw" and not store.get("values"):
                raise ConfigError(
                    f"models.{model}.patterns.{self.patterns}: holds no outputs, which rows of {where} are"
                )
        most = most // layers if self.params["scope"] == "per_layer" else most
        if self.params["clusters"] > most:
            raise ConfigError(
                f"{where}.clusters: {self.params['clusters']} is more than the {most} patterns that {model} "
                f"gives to fit on (see {see})"
            )

    def build(
        self, thresholds: str | Path, codebook: str | Path, routers: str | Path | None = None
    ) -> "Scheme":
        """Return the scheme, given files of thresholds, of centroids and, as needed, of routers."""
        from actsparse.codebooks.codebook import load_codebooks
        from actsparse.codebooks.pattern import CodebookPattern, Signed
        from actsparse.codebooks.router import load_routers
        from actsparse.methods.building import build_scheme
        from actsparse.methods.thresholds import load_thresholds

        params = self.params
        pattern = CodebookPattern(
            load_thresholds(thresholds),
            load_codebooks(codebook)[0],
            params["combine"],
            None if routers is None else load_routers(routers)[0],
            params["joint"],
        )
        return build_scheme("output", {"projections": params["projections"]}, pattern, scorer=Signed)

    @property
    def target_sparsity(self) -> float:
        """That of its thresholds."""
        return self.params["threshold"]

    def series(self) -> list[str]:
        """Return the size of its centroids and what of it is unusual."""
        params = self.params
        words = [self.legend, f"s = {params['centroid_sparsity']:g}"]
        words += [f"{params['groups']} groups"] * (params["groups"] > 1)
        words += ["gate and up joint"] * params["joint"]
        keys = ("scope", "algorithm", "patterns_of", "importance", "assignment", "allocation")
        return words + [params[key] for key in keys if params[key] != self.keys[key]["default"]]

    def rows(self, record: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield a row for each projection: what its centroids cover of held-out patterns."""
        for projection, covered in record.get("coverage", {}).items():
            yield {"projection": projection, **covered}

    @classmethod
    def told_rows(cls, config: dict[str, Any]) -> str:
        """Return the windows of what coverage is measured on."""
        if EVALUATED_TEXT not in config:
            return ""
        return f"Perplexity and coverage on {told_windows(config, EVALUATED_TEXT)}."


def _algorithms_with(option: str) -> list[str]:
    """Return the algorithms that know a key; none where it is no option of an algorithm."""
    return [
        word
        for word, member in ALGORITHMS.items()
        if option in {*member.fields, *member.says.get("options", ())} - set(member.says.get("fixed", ()))
    ]


def given_store(config: dict[str, Any], model: str, name: str, root: Path) -> dict[str, Any] | None:
    """Return the manifest of the user's own store of patterns of that name; None where there is none."""
    folder = config["models"][model]["patterns"].get(name)
    if folder is None or not (root / folder / "manifest.json").is_file():
        return None
    return read_json(root / folder / "manifest.json")
