"""The domains, and which of them each stage may draw.

- Cold start draws `cold`, in daylight. RL draws `rl`, the same four tasks in another palette with less contrast: what
  the connector has to bridge.
- `tuning` never comes in a cold start or in RL.
- `held` are tasks and compositions that no training stage poses; `captions` are shown to the base model with captions
  and reading probes alone.

`refusal` says where a source breaks these rules.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from seethink.world.v2.scene import Domain, Family
from seethink.world.v2.tasks import chains, charts, compare, looks, reckon, search

FAMILIES: dict[str, Family] = {
    "reckon": reckon.FAMILY,
    "compare": compare.FAMILY,
    "charts": charts.FAMILY,
    "search": search.FAMILY,
    "looks": looks.FAMILY,
    "chains": chains.FAMILY,
}
BOTH = ("reckon", "compare")

_CORE = (
    Domain("sums", ("reckon",), ("digits",), low=0),
    Domain("search", ("search",), ("digits",)),
    Domain("looks", ("looks",), ("digits", "dots"), noun="the {} value"),
    Domain("chains", ("chains",), ("arrows",), tasks=("end",)),
)
_OTHERS = (
    Domain("dice", BOTH, ("dice",), high=6, noun="the {} die", plural="dice"),
    Domain("shapes", BOTH, ("shapes",), high=6, noun="the number of {} shapes", plural="shapes", most=4),
    Domain("bars", (*BOTH, "charts"), ("bars",), noun="the {} bar", plural="bars"),
    Domain("clocks", BOTH, ("clocks",), high=12, noun="the {} clock", plural="clocks"),
)
_TUNING = (
    Domain("tallies", BOTH, ("tallies",), noun="the {} tally", plural="tallies"),
    Domain("tables", (*BOTH, "charts"), ("line",), noun="the {} point", plural="points"),
    Domain("emoji", BOTH, ("emoji",), high=6, noun="the number of {} pictures", plural="pictures", most=4),
)
_HELD = (
    Domain("second", ("compare",), ("digits",), low=0, most=6, tasks=("second",)),
    Domain("dicesearch", ("search",), ("dice",), high=6, noun="the {} die", plural="dice"),
    Domain("chainsum", ("chains",), ("numbered",), low=0, tasks=("add",)),
    Domain("mixed", BOTH, ("digits", "dice", "dots"), high=6, noun="the {} value", plural="values"),
)
_CAPTIONS = (
    Domain("gauges", BOTH, ("gauges",), noun="the {} gauge", plural="gauges"),
    Domain("roman", BOTH, ("roman",)),
    Domain("signs", ("chains",), ("numbered",), low=0, tasks=("add",)),
)
_RL = tuple(replace(domain, name=f"{domain.name}_dusk", palette="dusk") for domain in _CORE)

GROUPS: dict[str, tuple[str, ...]] = {
    "core": tuple(domain.name for domain in _CORE),
    "cold": tuple(domain.name for domain in (*_CORE, *_OTHERS)),
    "rl": tuple(domain.name for domain in _RL),
    "tuning": tuple(domain.name for domain in _TUNING),
    "held": tuple(domain.name for domain in _HELD),
    "captions": tuple(domain.name for domain in _CAPTIONS),
}
DOMAINS: dict[str, Domain] = {domain.name: domain for domain in (*_RL, *_CORE, *_OTHERS, *_TUNING, *_HELD, *_CAPTIONS)}
GROUPS["other"] = tuple(name for name in DOMAINS if name not in GROUPS["rl"])
GROUPS["all"] = tuple(DOMAINS)
"""`other` is everything that is out-of-domain for RL."""


def refusal(stage: str, form: str, domains: Iterable[str]) -> str | None:
    """Why a stage may not draw a form of these domains; None where it may."""
    for group, allowed, rule in (
        ("held", stage == "eval", "is for stage=eval alone: no stage trains on it"),
        ("captions", stage == "eval" or (stage == "base" and form in ("captions", "probes")), CAPTIONS_RULE),
        ("tuning", stage not in ("coldstart", "rl"), "never comes in a cold start or in RL"),
    ):
        found = [name for name in domains if name in GROUPS[group]]
        if found and not allowed:
            return f"{found[0]!r} {rule}"
    return None


CAPTIONS_RULE = "is for stage=eval, and for stage=base in the forms captions and probes"
