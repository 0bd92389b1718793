import pytest

from tti.models.taps import choose, kind_of, layer_of, natural, no_tap, scoped

WIDTHS = {"embed": 4} | {f"blocks.{layer}.{site}": 4 for layer in range(12) for site in ("mlp.post", "mlp_out")}


def test_globs_choose_in_natural_order():
    assert choose("blocks.*.mlp_out", WIDTHS) == tuple(f"blocks.{layer}.mlp_out" for layer in range(12))
    assert choose("blocks.*.mlp_out", dict(reversed(WIDTHS.items()))) == choose("blocks.*.mlp_out", WIDTHS)


def test_natural_order_puts_ten_after_nine():
    sites = [f"blocks.{layer}.mlp_out" for layer in (10, 9, 1, 11, 2)]
    assert sorted(sites, key=natural) == [f"blocks.{layer}.mlp_out" for layer in (1, 2, 9, 10, 11)]


def test_several_globs_are_united_without_repeats():
    assert choose(["blocks.1.*", "blocks.1.mlp_out", "embed"], WIDTHS) == (
        "blocks.1.mlp.post",
        "blocks.1.mlp_out",
        "embed",
    )


def test_a_star_takes_any_layer_but_one_digit_only_one():
    assert choose("blocks.1.mlp_out", WIDTHS) == ("blocks.1.mlp_out",)
    assert choose("blocks.1[01].mlp_out", WIDTHS) == ("blocks.10.mlp_out", "blocks.11.mlp_out")


@pytest.mark.parametrize("patterns", ["blocks.*.mlp_ou", ["embed", "blocks.12.mlp_out"]])
def test_a_glob_that_matches_nothing_lists_what_there_is(patterns):
    with pytest.raises(
        ValueError, match=r"it has: blocks\.\*\.mlp\.post, blocks\.\*\.mlp_out, embed; its blocks are 0 to 11$"
    ):
        choose(patterns, WIDTHS)


def test_names_of_layers_and_kinds():
    assert layer_of("blocks.11.mlp.post") == "layer_11"
    assert kind_of("blocks.11.mlp.post") == "mlp.post"
    assert layer_of("encoder.blocks.11.mlp.post") == "layer_11"
    assert kind_of("encoder.blocks.11.mlp.post") == "encoder.mlp.post"
    assert layer_of("embed") == kind_of("embed") == "embed"


def test_a_scope_stands_before_the_site():
    seen = []
    tap = scoped(scoped(lambda site, activation: seen.append(site) or activation, "blocks.3"), "mlp")
    assert tap("post", "anything") == "anything"
    assert seen == ["blocks.3.mlp.post"]
    assert no_tap("post", "anything") == "anything"
