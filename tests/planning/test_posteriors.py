"""Conjugate beliefs: counts by hand, moments of samples, and the error messages."""

import pytest
import torch

from metarl.planning.posteriors import (
    MDPPrior,
    mean_mdp,
    sample_beta,
    sample_dirichlet,
    sample_mdp,
    update_posterior,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_dirichlet_draws_have_the_moments():
    alpha = torch.tensor([0.5, 1.0, 3.5], dtype=torch.float64)
    draws = sample_dirichlet(alpha.expand(200_000, 3), generator())
    torch.testing.assert_close(draws.sum(-1), torch.ones(200_000, dtype=torch.float64))
    mean = alpha / 5
    torch.testing.assert_close(draws.mean(0), mean, atol=3e-3, rtol=0)
    torch.testing.assert_close(draws.var(0), mean * (1 - mean) / 6, atol=1e-3, rtol=0)


def test_beta_draws_have_the_moments_in_the_right_order():
    successes, failures = torch.full((200_000,), 4.0), torch.ones(200_000)
    draws = sample_beta(successes, failures, generator())
    assert float(draws.mean()) == pytest.approx(0.8, abs=2e-3)
    assert float(draws.var()) == pytest.approx(4 / (25 * 6), abs=1e-3)


@pytest.mark.parametrize("alpha", [0.3, 1e-2, 1e-4, 1e-6])
def test_small_concentrations_give_sparse_distributions(alpha):
    """E[p²] = (α + 1) / (S (S α + 1)): at a tiny α all mass is on one state."""
    draws = sample_dirichlet(torch.full((40_000, 10), alpha), generator())
    torch.testing.assert_close(draws.sum(-1), torch.ones(40_000))
    expected = (alpha + 1) / (10 * (10 * alpha + 1))
    assert float(draws.square().mean()) == pytest.approx(expected, rel=0.01)
    assert (draws.mean(0) - 0.1).abs().max() < 5 * 0.3 / 200  # five standard errors


def test_the_prior_is_the_same_for_all_pairs():
    belief = MDPPrior(2.0, 0.5, 3.0).posterior((4, 2), 3, 2, "cpu")
    assert belief.reward_means.shape == belief.reward_precisions.shape == (4, 2, 3, 2)
    assert belief.concentrations.shape == (4, 2, 3, 2, 3)
    assert [float(part.unique()) for part in belief] == [2.0, 0.5, 3.0]


def test_beliefs_follow_from_the_data_by_hand():
    belief = MDPPrior(reward_mean=1.0, reward_precision=2.0).posterior((1,), 2, 2, "cpu")
    one, zero = torch.tensor([1]), torch.tensor([0])
    yes, no = torch.tensor([True]), torch.tensor([False])
    belief = update_posterior(
        belief, zero, one, torch.tensor([4.0]), next_states=one, continues=yes
    )
    belief = update_posterior(
        belief, zero, one, torch.tensor([7.0]), next_states=zero, continues=no
    )
    # (2 · 1 + 4 + 7) / 4, and one transition seen, the other not
    assert float(belief.reward_means[0, 0, 1]) == pytest.approx(13 / 4)
    assert float(belief.reward_precisions[0, 0, 1]) == 4
    assert belief.concentrations[0, 0, 1].tolist() == [1, 2]
    assert belief.reward_means[0, 0, 0] == belief.reward_means[0, 1, 1] == 1
    assert belief.reward_precisions.sum() == 4 + 3 * 2
    assert belief.concentrations.sum() == 8 + 1


def test_beliefs_agree_with_counts_of_many_transitions():
    steps, envs = 40, 3
    rng = generator(1)
    states = torch.randint(4, (steps, envs), generator=rng)
    actions = torch.randint(2, (steps, envs), generator=rng)
    arrivals = torch.randint(4, (steps, envs), generator=rng)
    continues = torch.rand(steps, envs, generator=rng) < 0.7
    rewards = torch.randn(steps, envs, generator=rng)
    belief = MDPPrior().posterior((envs,), 4, 2, "cpu")
    for t in range(steps):
        belief = update_posterior(
            belief,
            states[t],
            actions[t],
            rewards[t],
            next_states=arrivals[t],
            continues=continues[t],
        )
    for e in range(envs):
        for s in range(4):
            for a in range(2):
                here = (states[:, e] == s) & (actions[:, e] == a)
                n = int(here.sum())
                mean = (1 + float(rewards[here, e].sum())) / (1 + n)
                assert float(belief.reward_means[e, s, a]) == pytest.approx(mean, abs=1e-5)
                assert float(belief.reward_precisions[e, s, a]) == 1 + n
                counts = torch.bincount(arrivals[here & continues[:, e], e], minlength=4)
                assert belief.concentrations[e, s, a].tolist() == (1 + counts).tolist()


def test_one_process_does_not_touch_another():
    belief = MDPPrior().posterior((2,), 2, 2, "cpu")
    states = actions = torch.zeros(2, dtype=torch.int64)
    seen = {"next_states": states, "continues": torch.ones(2, dtype=torch.bool)}
    one = update_posterior(belief, states, actions, torch.tensor([1.0, 5.0]), **seen)
    other = update_posterior(belief, states, actions, torch.tensor([1.0, -5.0]), **seen)
    assert torch.equal(one.reward_means[0], other.reward_means[0])
    assert not torch.equal(one.reward_means[1], other.reward_means[1])


def test_samples_and_means_of_a_process_follow_the_belief():
    belief = MDPPrior(reward_mean=3.0, reward_precision=4.0).posterior((50_000,), 2, 1, "cpu")
    belief.concentrations[..., 0] = 3
    rewards, transitions = sample_mdp(belief, generator())
    assert float(rewards.mean()) == pytest.approx(3, abs=0.01)
    assert float(rewards.std()) == pytest.approx(0.5, abs=0.01)
    assert float(transitions[..., 0].mean()) == pytest.approx(0.75, abs=0.01)
    expected_rewards, expected = mean_mdp(belief)
    assert float(expected_rewards.unique()) == 3
    assert expected[0, 0, 0].tolist() == [0.75, 0.25]


def test_impossible_priors_are_rejected():
    with pytest.raises(ValueError, match=r"reward_precision must lie in \(0, ∞\), got 0"):
        MDPPrior(reward_precision=0.0)
    with pytest.raises(ValueError, match=r"concentration must lie in \(0, ∞\), got -1"):
        MDPPrior(concentration=-1.0)
    with pytest.raises(ValueError, match="reward_mean must be a finite number, got nan"):
        MDPPrior(reward_mean=float("nan"))
