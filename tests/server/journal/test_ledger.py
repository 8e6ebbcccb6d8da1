"""What budgets begin with: everything that was delivered, and every doubt."""

import pytest

from server.journal.ledger import Account, Ledger
from server.journal.read import rows
from server.journal.rows import GENESIS, Entry, chain
from server.journal.writer import Journal
from streaming.limits import LONGEST_TRAIN_S
from tests.server.journal.fakes import TRAIN_S, TRAIN_UC, FakeClocks, limits, lived_in, outcome, trigger

T0 = 1_800_000_000.0


def account(*entries, run_id="r1"):
    """An account of (seconds after T0, kind, fields)."""
    account = Account()
    account.add(chain(run_id, [Entry(kind, fields, T0 + t, 0.0, 0.0) for t, kind, fields in entries], 0, GENESIS))
    return account


def started(*ids, at=0.0, largest=TRAIN_UC):
    return (
        (at, "run_started", {}),
        (at, "limits", {"largest_train_uc": largest, "longest_train_s": 0.3}),
        (at, "reserved", {"ids": list(ids), "largest_train_uc": largest}),
    )


@pytest.mark.parametrize(
    ("result", "trains"), [("delivered", 1), ("unknown", 1), ("fired", 1), (None, 1), ("refused", 0), ("not_fired", 0)]
)
def test_what_is_not_known_to_have_been_kept_back_was_delivered(result, trains):
    ledger = account(*started("a"), (1, "trigger", trigger("a")), (1.1, "outcome", outcome("a", result))).ledger(T0 + 5)
    assert ledger.charge_today_uc == ({34: TRAIN_UC} if trains else {})
    assert ledger.charge_unknown_uc == 0
    assert ledger.pulses_ago() == ((4.0, 34, TRAIN_S),) * trains


def test_charge_adds_up_by_electrode():
    entries = [*started("a", "b", "c")]
    for i, (one, electrode) in enumerate((("a", 34), ("b", 35), ("c", 34))):
        entries += [(i, "trigger", trigger(one, electrode)), (i, "outcome", outcome(one))]
    ledger = account(*entries).ledger(T0 + 10)
    assert ledger.charge_today_uc == pytest.approx({34: 2 * TRAIN_UC, 35: TRAIN_UC})
    assert ledger.day_uc([34, 36]) == pytest.approx({34: 2 * TRAIN_UC, 36: 0.0})
    assert len(ledger.recent) == 3


def test_a_rolling_day_and_a_rolling_minute():
    fired = account(*started("a"), (0, "trigger", trigger("a")), (0, "outcome", outcome("a")))
    day = 24 * 3600
    assert [len(fired.ledger(T0 + t).charge_today_uc) for t in (0, day - 1, day)] == [1, 1, 0]


def test_of_the_last_minute_all_and_of_the_day_the_last():
    """Refractory may be an hour."""
    entries = [*started("a", "b")]
    for at, one in ((0, "a"), (10, "b")):
        entries += [(at, "trigger", trigger(one)), (at, "outcome", outcome(one))]
    times = (10, 59, 60, 70, 24 * 3600, 24 * 3600 + 10)
    ages = [[age for age, _, _ in account(*entries).ledger(T0 + t).pulses_ago()] for t in times]
    assert ages == [[10, 0], [59, 49], [50], [60], [24 * 3600 - 10], []]


def test_a_train_of_an_older_row_was_as_long_as_any_may_be():
    entries = [
        (0, "run_started", {}),
        (0, "limits", {"largest_train_uc": TRAIN_UC}),
        (0, "reserved", {"ids": ["a", "b"]}),
    ]
    old = account(*entries, (1, "trigger", trigger("a", train_s=None)), (1, "outcome", outcome("a")))
    assert old.ledger(T0 + 2).pulses_ago() == ((1.0, 34, LONGEST_TRAIN_S),)
    assert old.doubts((T0 + 2, 0.0, 0.0))[1].fields["train_s"] == LONGEST_TRAIN_S


def test_a_clock_that_was_set_back_forgives_nothing():
    ledger = account(*started("a"), (0, "trigger", trigger("a")), (0, "outcome", outcome("a"))).ledger(T0 - 3600)
    assert ledger.charge_today_uc == {34: TRAIN_UC}
    assert ledger.pulses_ago() == ((0.0, 34, TRAIN_S),)  # as if just now


def test_a_refused_trigger_that_the_rig_delivered_was_delivered():
    stim = {"trial": 1, "trigger_id": "a", "electrode": 34, "duration_s": 0.2}
    entries = [*started("a"), (1, "trigger", trigger("a")), (1, "outcome", outcome("a", "refused"))]
    assert account(*entries, (2, "stimulation", stim)).ledger(T0 + 3).charge_today_uc == {34: TRAIN_UC}
    own = {"trial": 1, "electrode": 34, "duration_s": 0.2}  # the rig's own trains are not what we asked for
    assert account(*entries, (2, "stimulation", own)).ledger(T0 + 3).charge_today_uc == {}


def test_a_trigger_that_was_refused_without_an_id_is_nobodys():
    entries = [*started("a"), (1, "trigger", trigger("a") | {"trigger_id": None, "refused": "late"})]
    foreign = {"trial": 1, "trigger_id": None, "electrode": 34, "duration_s": 0.2}
    assert account(*entries, (2, "stimulation", foreign)).ledger(T0 + 3).charge_today_uc == {}


def test_an_unknown_pattern_costs_the_dearest_train_everywhere():
    entries = [*started("a", largest=0.5), (0, "limits", {"largest_train_uc": 0.3})]
    ledger = account(*entries, (1, "outcome", outcome("a", "unknown"))).ledger(T0 + 2)
    assert (ledger.charge_today_uc, ledger.charge_unknown_uc) == ({}, 0.5)
    assert ledger.day_uc([1, 2]) == {1: 0.5, 2: 0.5}
    no_charge = trigger("a", train_charge_uc=None)
    ledger = account(*entries, (1, "trigger", no_charge), (1, "outcome", outcome("a"))).ledger(T0 + 2)
    assert ledger.charge_today_uc == {34: 0.5}
    nowhere = trigger("a", electrode=None)
    ledger = account(*entries, (1, "trigger", nowhere), (1, "outcome", outcome("a"))).ledger(T0 + 2)
    assert ledger.charge_unknown_uc == TRAIN_UC


def test_doubts_of_an_unclean_end():
    one = account(
        *started("a", "b", "c", "d"),
        (1, "trigger", trigger("a")),
        (1, "outcome", outcome("a")),
        (2, "trigger", trigger("b", 35)),
        (3, "would_fire", trigger("c")),
    )
    doubts = one.doubts((T0 + 10, 0.0, 0.0))
    assert [(d.kind, d.fields.get("trigger_id"), d.fields.get("electrode")) for d in doubts] == [
        ("unclean_end", None, None),
        ("outcome", "b", 35),
        ("outcome", "d", None),
    ]
    assert doubts[0].fields == {"of_run": "r1", "ids": ["b", "d"]}
    one.add(chain("r2", [Entry("run_started", {}, T0 + 10, 0.0, 0.0), *doubts], 99, GENESIS))
    assert one.open == {}
    ledger = one.ledger(T0 + 10)
    assert ledger.charge_today_uc == {34: TRAIN_UC, 35: TRAIN_UC}
    assert ledger.charge_unknown_uc == TRAIN_UC
    # a at its time, b at its trigger's, d and the unclean end as if just now; d through any electrode, and the longest
    assert ledger.pulses_ago() == ((9.0, 34, TRAIN_S), (8.0, 35, TRAIN_S), (0.0, None, 0.3), (0.0, None, 0.0))


def test_doubts_hold_where_the_trigger_row_is_out_of_sight():
    one = account(*started("a"), (1, "trigger", trigger("a")))
    later = Account()
    later.add(chain("r2", [Entry("run_started", {}, T0, 0.0, 0.0), *one.doubts((T0, 0.0, 0.0))], 9, GENESIS))
    assert later.ledger(T0).charge_today_uc == {34: TRAIN_UC}


def test_a_clean_end_leaves_no_doubt():
    one = account(*started("a", "b"), (1, "outcome", outcome("a")), (2, "run_ended", {"unused": ["b"]}))
    assert one.doubts((T0, 0.0, 0.0)) == []
    assert Account().doubts((T0, 0.0, 0.0)) == []
    assert Account().ledger(T0) == Ledger(T0, {}, 0.0, ())


def test_across_restarts(tmp_path):
    path, clock = tmp_path / "p07.journal", FakeClocks()
    lived_in(path, clock)  # three pulses, 11 s apart
    journal = Journal(path, limits=limits(), clocks=clock.clocks())
    assert journal.ledger.charge_today_uc == pytest.approx({34: 3 * TRAIN_UC})
    assert [age for age, _, _ in journal.ledger.pulses_ago()] == pytest.approx([23.0, 12.0, 1.0])
    assert journal.take_id() != journal.take_id()  # and never heard of again
    journal.close()
    again = Journal(path, clocks=clock.clocks())
    assert again.ledger.charge_unknown_uc == pytest.approx(2 * TRAIN_UC)
    assert len(again.ledger.recent) == 5
    again.close()
    clock.pass_(24 * 3600)
    tomorrow = Journal(path, clocks=clock.clocks())
    assert tomorrow.ledger == Ledger(clock.wall, {}, 0.0, ())
    tomorrow.close()
    kinds = [row.kind for row in rows(path)]
    assert kinds.count("run_started") == kinds.count("run_ended") == 4
    assert "unclean_end" not in kinds
