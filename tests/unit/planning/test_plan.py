"""Properties of the plan of any fleet."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ape_infra.planning import plan
from ape_infra.planning.tiers import DEFAULT_TIERS, MAX_AGENTS, Tier, problems, tier_for

pytestmark = pytest.mark.unit
fleets = st.integers(min_value=1, max_value=MAX_AGENTS)
densities = st.integers(min_value=1, max_value=100)


@pytest.mark.parametrize(
    ("agents", "memory_mb", "cpus"),
    [
        # Both ends of each row.
        (1, 512, 0.5),
        (50, 512, 0.5),
        (51, 384, 0.35),
        (100, 384, 0.35),
        (101, 256, 0.25),
        (200, 256, 0.25),
        (201, 192, 0.15),
        (500, 192, 0.15),
        (501, 128, 0.1),
        (2000, 128, 0.1),
    ],
)
def test_the_default_tiers_have_the_required_limits(
    agents: int, memory_mb: int, cpus: float
) -> None:
    tier = tier_for(agents)
    assert (tier.memory_mb, tier.cpus) == (memory_mb, cpus)


def test_the_default_tiers_are_sound() -> None:
    assert problems(DEFAULT_TIERS) == []


@given(fleets, fleets)
def test_limits_never_rise_with_the_fleet(a: int, b: int) -> None:
    small, large = tier_for(min(a, b)), tier_for(max(a, b))
    assert large.memory_mb <= small.memory_mb
    assert large.cpus <= small.cpus


@pytest.mark.parametrize(
    ("rows", "path"),
    [
        ([], "tiers"),
        ([Tier(1, 50, 512, 0.5), Tier(52, 2000, 128, 0.1)], "tiers[1].minAgents"),
        ([Tier(1, 50, 512, 0.5), Tier(50, 2000, 128, 0.1)], "tiers[1].minAgents"),
        ([Tier(1, 50, 512, 0.5), Tier(51, 2000, 513, 0.1)], "tiers[1].memoryMb"),
        ([Tier(1, 50, 512, 0.5), Tier(51, 2000, 128, 0.6)], "tiers[1].cpus"),
        ([Tier(2, 2000, 512, 0.5)], "tiers[0].minAgents"),
        ([Tier(1, 1999, 512, 0.5)], "tiers[0].maxAgents"),
    ],
)
def test_problems_name_the_path_of_an_unsound_table(rows: list[Tier], path: str) -> None:
    assert path in [found for found, _ in problems(rows)]


@given(fleets)
def test_pools_follow_their_formulas(agents: int) -> None:
    pools = plan.pools(agents)
    assert pools.connections == max(1, int(min(10, agents / 10)))
    assert pools.maxsize == max(1, int(min(20, agents / 5)))
    assert pools.keepalive == max(1, int(min(50, agents / 10)))


def home(agents: int, density: int) -> dict[int, tuple[str, int, int]]:
    """Slot -> its network, its container's first slot, and how many share the container."""
    return {
        slot: (shard.name, first, group.agents_each)
        for shard in plan.shards(agents, density)
        for group in shard.groups
        for number in range(group.first, group.last + 1)
        for first in [(number - 1) * density + 1]
        for slot in range(first, first + group.agents_each)
    }


@given(fleets, densities)
def test_every_agent_is_in_one_container_of_a_small_shard(agents: int, density: int) -> None:
    found = home(agents, density)
    assert sorted(found) == list(range(1, agents + 1))
    in_network = Counter(network for network, _ in {(n, first) for n, first, _ in found.values()})
    assert max(in_network.values()) <= 250
    assert in_network.total() == plan.containers(agents, density)
    assert max(found[slot][2] for slot in found) <= density


@given(fleets, fleets, densities)
def test_scaling_changes_only_the_last_container(a: int, b: int, density: int) -> None:
    before, after = home(a, density), home(b, density)
    changed = {slot for slot in before.keys() & after.keys() if before[slot] != after[slot]}
    # Only the one container that was not full may change.
    last = (min(a, b) - 1) // density * density + 1
    assert changed <= set(range(last, last + density))
    assert not changed or min(a, b) % density


@given(fleets, densities)
def test_containers_are_numbered_without_gaps_at_any_density(agents: int, density: int) -> None:
    groups = [g for shard in plan.shards(agents, density) for g in shard.groups]
    assert [g.first for g in groups[1:]] == [g.last + 1 for g in groups[:-1]]
    rest = [g for g in groups if g.agents_each != density]
    assert len(rest) <= 1
    assert not rest or (rest == groups[-1:] and rest[0].first == rest[0].last)


@given(fleets)
def test_health_checks_stay_within_the_budget_of_the_host(containers: int) -> None:
    interval = plan.health_interval_seconds(containers)
    if interval is None:
        assert containers / plan.HEALTH_INTERVAL_MAX_SECONDS > plan.HEALTH_CHECKS_PER_SECOND
    else:
        assert containers / interval <= plan.HEALTH_CHECKS_PER_SECOND
        assert plan.HEALTH_INTERVAL_MIN_SECONDS <= interval < 60


def test_scaling_within_a_default_tier_keeps_the_health_check() -> None:
    for tier in DEFAULT_TIERS[:3]:
        assert plan.health_interval_seconds(tier.min_agents) == plan.health_interval_seconds(
            tier.max_agents
        )


def test_a_thousand_agents_in_twenty_containers() -> None:
    made = plan.make_plan(1000, stack="dev", agents_per_container=50)
    assert (made.containers, len(made.shards), made.health_interval_seconds) == (20, 1, 13)
    assert made.resources.agents_memory_mb == 1000 * 128
    assert "1000 agents in 20 containers" in made.summary


@given(fleets, st.sampled_from(["off", "metrics", "full"]), st.booleans())
def test_the_resources_are_the_sum_of_their_parts(
    agents: int, seen: plan.Observability, demo: bool
) -> None:
    tier = tier_for(agents)
    total = plan.make_plan(agents, stack="dev", observability=seen, demo_target=demo).resources
    assert total.agents_memory_mb == agents * tier.memory_mb
    assert total.memory_mb == (
        total.agents_memory_mb + total.services_memory_mb + total.docker_memory_mb
    )
    assert total.cpus == pytest.approx(agents * tier.cpus + 6.0)


@given(fleets, densities)
def test_a_dense_fleet_has_the_sum_of_its_containers_limits(agents: int, density: int) -> None:
    tier = tier_for(agents)
    groups = [g for shard in plan.shards(agents, density) for g in shard.groups]
    cpus = sum((g.last - g.first + 1) * plan.container_cpus(tier, g.agents_each) for g in groups)
    total = plan.make_plan(agents, stack="dev", agents_per_container=density).resources
    assert total.agents_cpus == pytest.approx(cpus)
    assert total.agents_memory_mb == agents * tier.memory_mb
    assert plan.container_cpus(tier, 1) == tier.cpus
    assert plan.container_cpus(tier, density) <= 1.0


def test_full_observability_has_its_memory_budget() -> None:
    assert plan.service_memory_mb("full", demo_target=False) == 1024 + 1024 + 4096


@given(st.integers(min_value=0, max_value=63), st.integers(min_value=0, max_value=63))
def test_subnets_do_not_overlap(a: int, b: int) -> None:
    import ipaddress

    first, second = (ipaddress.ip_network(plan.subnet("10.213.0.0/16", i)[0]) for i in (a, b))
    assert first.overlaps(second) == (a == b)
    # A shard of 250 agents with gateway, proxy and Swarm's own addresses must fit.
    assert first.num_addresses >= 2 * (plan.CONTAINERS_PER_NETWORK + 10)


def test_a_full_pool_is_rejected() -> None:
    with pytest.raises(ValueError, match="no room"):
        plan.subnet("10.213.0.0/22", 1)


def test_the_random_seed_of_start_delays_is_fixed_for_each_stack() -> None:
    assert plan.start_delay_seed("dev") == plan.start_delay_seed("dev")
    assert plan.start_delay_seed("dev") != plan.start_delay_seed("prod")
    assert 0 <= plan.start_delay_seed("dev") < 1


def test_scaling_within_a_tier_keeps_the_pools_of_the_gateway() -> None:
    five, twenty = (plan.make_plan(n, stack="dev").pools for n in (5, 20))
    assert five == twenty == plan.pools(50)


def test_capacity_counts_containers_not_agents() -> None:
    made = plan.make_plan(2000, stack="dev", agents_per_container=20, monitor=True)
    assert set(made.services) == {
        *("gateway", "proxy", "target"),
        *("prometheus", "monitor", "socket-proxy"),
    }
    assert (made.containers, made.service_containers, made.all_containers) == (100, 6, 106)
    # All are on one network, with gateway and proxy.
    assert made.containers_per_network == 102
    assert made.resources.docker_memory_mb == math.ceil(106 * plan.DOCKER_MB_PER_CONTAINER)


@given(fleets, densities)
def test_the_fullest_network_has_room_for_its_containers(agents: int, density: int) -> None:
    made = plan.make_plan(agents, stack="dev", agents_per_container=density)
    assert made.containers == sum(shard.containers for shard in made.shards)
    assert made.containers_per_network <= 250 + plan.SERVICES_PER_NETWORK


def test_parts_that_are_left_out_are_not_counted() -> None:
    full = plan.make_plan(5, stack="dev", observability="full")
    some = plan.make_plan(5, stack="dev", observability="full", parts=("prometheus", "loki"))
    assert full.service_containers - some.service_containers == 3


def test_a_stack_has_one_log_store() -> None:
    for store in plan.LOG_STORES:
        assert set(plan.parts_of("full", store)) & set(plan.LOG_STORES) == {store}
    assert plan.parts_of("metrics", "victorialogs") == ("prometheus",)
    assert plan.parts_of("off") == ()
