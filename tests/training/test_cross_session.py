"""The cross-session loss against its formula, and what its value means."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from training.cross_session import NORMS, CrossSession, ranks

SESSIONS = torch.arange(8).repeat(4)  # 8 sessions of 4 windows, as the paper's batches
SEEN = torch.ones(32, dtype=torch.bool)
PRIOR = -(896 * math.log(896 / 992) + 96 * math.log(96 / 992)) / 992  # nats a pair, 0.318


def latents(spread: float, width: int = 16, seed: int = 0) -> torch.Tensor:
    """Embeddings around one direction."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(width, generator=generator) + spread * torch.randn(32, width, generator=generator)


@pytest.mark.parametrize("norm", NORMS)
def test_it_is_the_formula(norm: str):
    loss = CrossSession(16, norm)
    torch.nn.init.constant_(loss.bias, 0.7)
    h = latents(1.0).double().numpy()
    z = h / np.linalg.norm(h, axis=1, keepdims=True)
    costs: dict[int, list[float]] = {1: [], -1: []}
    for i in range(32):
        for j in range(32):
            if i != j:
                y = 1 if SESSIONS[i] != SESSIONS[j] else -1
                costs[y].append(math.log1p(math.exp(-y * (10 * z[i] @ z[j] + 0.7))))
    assert (len(costs[1]), len(costs[-1])) == (896, 96)
    expected = {
        "siglip": (sum(costs[1]) + sum(costs[-1])) / 32,
        "mean": (sum(costs[1]) + sum(costs[-1])) / 992,
        "balanced": (np.mean(costs[1]) + np.mean(costs[-1])) / 2,
    }[norm]
    assert loss(latents(1.0), SESSIONS, SEEN).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("spread", [0.0, 0.01, 0.1])
def test_calibrated_it_starts_from_the_prior_entropy(spread: float):
    """An untrained encoder's embeddings are nearly parallel, whatever their number of dimensions."""
    loss = CrossSession(16, "mean")
    loss.calibrate(latents(spread), SESSIONS, SEEN)
    assert pytest.approx(0.318, abs=5e-4) == PRIOR
    assert loss(latents(spread), SESSIONS, SEEN).item() == pytest.approx(PRIOR, rel=0.02 if spread == 0.1 else 1e-3)
    siglip = CrossSession(16)
    siglip.calibrate(latents(spread), SESSIONS, SEEN)
    assert siglip(latents(0.0), SESSIONS, SEEN).item() == pytest.approx(31 * PRIOR, rel=0.05)


@pytest.mark.parametrize("norm", NORMS)
def test_the_floor_is_the_best_that_a_constant_can_do(norm: str):
    loss, flat = CrossSession(16, norm), torch.ones(32, 16)

    def at(bias: float) -> float:
        torch.nn.init.constant_(loss.bias, bias)
        return float(loss(flat, SESSIONS, SEEN))

    best = minimize_scalar(at, bracket=(-20, 0))
    assert loss.floor(SESSIONS, SEEN) == pytest.approx(best.fun, rel=1e-4)
    loss.calibrate(flat, SESSIONS, SEEN)
    assert float(loss(flat, SESSIONS, SEEN)) == pytest.approx(best.fun, rel=1e-4)


def test_what_the_best_scalars_can_reach_says_how_the_session_is_used():
    """Alike within sessions: never below the floor, since t > 0. Alike across them: below it."""
    session_only = torch.eye(8)[SESSIONS]
    across = torch.eye(4)[torch.arange(32) // 8]  # the k-th windows of all sessions are the same
    for pooled, below in ((session_only, False), (across, True)):
        loss = CrossSession(pooled.shape[1], "mean")
        loss.calibrate(pooled, SESSIONS, SEEN)
        optimizer = torch.optim.Adam(loss.parameters(), 0.1)
        for _ in range(100):
            optimizer.zero_grad()
            value = loss(pooled, SESSIONS, SEEN)
            value.backward()
            optimizer.step()
        floor = loss.floor(SESSIONS, SEEN)
        assert value.item() < 0.95 * floor if below else floor <= value.item() < 1.1 * floor


def windows(n: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """n of each session: which it is, the state of the cortex, and what is recorded of both, the session stronger."""
    session = torch.arange(8).repeat(n)
    state = torch.randn(8 * n, 8, generator=generator)
    return session, state, torch.cat([3 * torch.eye(8)[session], state], dim=1)


def between(values: torch.Tensor, session: torch.Tensor) -> float:
    """Share of the variance that lies between sessions."""
    means = torch.stack([values[s == session].mean(0) for s in range(8)])
    return float(means.var(0).sum() / values.var(0).sum())


def explained(learned: list[torch.Tensor], tested: list[torch.Tensor]) -> float:
    """Share of the state's variance that a linear readout of the embedding explains in windows that it never saw."""
    (z, state), (z_new, state_new) = [(torch.cat([z, torch.ones(len(z), 1)], dim=1), s) for z, s in (learned, tested)]
    wrong = z_new @ torch.linalg.lstsq(z, state).solution - state_new
    return 1 - float(wrong.square().sum() / (state_new - state_new.mean(0)).square().sum())


def test_descent_takes_the_session_out_of_the_embedding_and_leaves_the_state():
    """Of an encoder that is one matrix, on windows that it never saw."""
    generator = torch.Generator().manual_seed(1)
    encoder = torch.eye(16).requires_grad_()
    loss = CrossSession(16)
    optimizer = torch.optim.Adam([encoder, *loss.parameters()], 0.03)
    learned, tested = windows(50, generator), windows(50, generator)

    def seen() -> tuple[float, float]:
        (_, state, x), (session_new, state_new, x_new) = learned, tested
        z, z_new = (torch.nn.functional.normalize(each @ encoder.detach(), dim=1) for each in (x, x_new))
        return between(z_new, session_new), explained([z, state], [z_new, state_new])

    session_before, state_before = seen()
    for step in range(200):
        session, _, x = windows(4, generator)
        if step == 0:
            loss.calibrate(x, session, SEEN)
        optimizer.zero_grad()
        loss(x @ encoder, session, SEEN).backward()
        optimizer.step()
    session_after, state_after = seen()
    assert session_after < 0.1 * session_before  # 0.60 → 0.03, where 50 windows a session leave 0.02 by chance
    assert state_after > state_before - 0.01  # 0.986 → 0.993


def test_neighbours_are_the_windows_of_other_sessions_that_were_doing_alike():
    activity = torch.randn(32, 5, generator=torch.Generator().manual_seed(2))
    loss = CrossSession(16, "mean", neighbours=3)
    same, differ = loss._pairs(SESSIONS, SEEN, activity)
    expected = torch.zeros(32, 32, dtype=torch.bool)
    for i in range(32):
        others = [j for j in range(32) if SESSIONS[j] != SESSIONS[i]]
        others.sort(key=lambda j, i=i: float((activity[i] - activity[j]).square().sum()))
        for j in others[:3]:
            expected[i, j] = expected[j, i] = True
    assert torch.equal(differ, expected)
    assert torch.equal(same, CrossSession(16)._pairs(SESSIONS, SEEN, None)[0]), "of the same session all are apart"
    none_seen = torch.arange(32) < 3
    assert not loss._pairs(SESSIONS, none_seen, activity)[1][3:].any()
    everybody = CrossSession(16, "mean", neighbours=100)
    assert torch.equal(everybody._pairs(SESSIONS, SEEN, activity)[1], CrossSession(16)._pairs(SESSIONS, SEEN, None)[1])
    pooled = latents(1.0).requires_grad_()
    loss.calibrate(pooled, SESSIONS, SEEN, activity)
    loss(pooled, SESSIONS, SEEN, activity).backward()
    assert pooled.grad.isfinite().all()
    positives, negatives = int(differ.sum()), int(same.sum())
    share = positives / (positives + negatives)
    prior = -share * math.log(share) - (1 - share) * math.log(1 - share)
    assert loss.floor(SESSIONS, SEEN, activity) == pytest.approx(prior)


def test_what_was_not_seen_is_in_no_pair():
    seen = SEEN.clone()
    seen[[3, 20]] = False
    pooled = latents(1.0)
    other = pooled.clone()
    other[[3, 20]] = 1e3
    for norm in NORMS:
        loss = CrossSession(16, norm)
        found = [float(loss(one, SESSIONS, seen)) for one in (pooled, other)]
        assert found[0] == found[1] == pytest.approx(float(loss(pooled[seen], SESSIONS[seen], SEEN[:30])))


@pytest.mark.parametrize("norm", NORMS)
def test_with_one_kind_of_pairs_or_none_it_is_finite(norm: str):
    for session in (torch.arange(4), torch.zeros(4, dtype=torch.long)):
        for seen in (torch.ones(4, dtype=torch.bool), torch.zeros(4, dtype=torch.bool), torch.arange(4) == 2):
            loss, pooled = CrossSession(16, norm), latents(1.0)[:4].requires_grad_()
            loss.calibrate(pooled, session, seen)
            value = loss(pooled, session, seen)
            value.backward()
            assert value.isfinite()
            assert pooled.grad.isfinite().all()
            assert math.isfinite(loss.floor(session, seen))


def test_a_projector_stands_between():
    plain, projected = CrossSession(16), CrossSession(16, embedding="projector")
    assert [name for name, _ in plain.named_parameters()] == ["log_t", "bias"]
    assert len(list(projected.parameters())) == 6
    assert projected(latents(1.0), SESSIONS, SEEN).isfinite()


def test_ranks_of_known_spectra():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((500, 6)))[0]
    basis -= basis.mean(0)
    basis = np.linalg.qr(basis)[0]  # columns orthonormal and of mean 0
    for scales, rank, participation in (
        ([1, 1, 1, 0, 0, 0], 3.0, 3.0),
        ([1, 0, 0, 0, 0, 0], 1.0, 1.0),
        ([2, 1, 0, 0, 0, 0], math.exp(-(2 * math.log(2 / 3) + math.log(1 / 3)) / 3), 25 / 17),
    ):
        x = torch.from_numpy(basis * scales + 5.0)  # a common offset is no direction
        found = ranks(x.T @ x, x.sum(0), len(x))
        assert found["rank"] == pytest.approx(rank, rel=1e-3)
        assert found["participation"] == pytest.approx(participation, rel=1e-3)
