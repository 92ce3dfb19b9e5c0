use super::*;
use crate::webhook::Next;

fn alert(name: &'static str, severity: Severity) -> Alert {
    Alert {
        name,
        severity,
        since: Utc::now(),
        message: "it waits".to_owned(),
        runbook: "docs/runbook.md#alert-pending-age".to_owned(),
    }
}

/// Told at once when it is over, and again at once when it was given up.
fn told(line: &Line) -> Told {
    let told = Told::new(Some(line.clone()), "m1".to_owned());
    Told { over_after: Duration::ZERO, again_after: Duration::ZERO, ..told }
}

/// Events and ids that wait in a line, which is empty then.
fn sent(line: &Line) -> Vec<(String, String)> {
    let text = |message: &Value, name: &str| message[name].as_str().unwrap_or_default().to_owned();
    let mut sent = Vec::new();
    while let Next::Send(message, _) = line.next(Instant::now()) {
        sent.push((text(&message, "event"), text(&message, "alert_id")));
        line.done(&message);
    }
    sent
}

fn of(event: &str, id: &str) -> (String, String) {
    (event.to_owned(), id.to_owned())
}

#[test]
fn an_alert_is_told_once_again_when_it_gets_worse_and_is_not_over_at_once() {
    let line = Line::default();
    let mut told = Told::new(Some(line.clone()), "m1".to_owned());
    let raised = of("raised", "m1-pending_age");
    told.tell(&[alert("pending_age", Severity::Warning)], |_| true);
    told.tell(&[alert("pending_age", Severity::Warning)], |_| true);
    assert_eq!(sent(&line), std::slice::from_ref(&raised));
    told.tell(&[alert("pending_age", Severity::Critical)], |_| true);
    assert_eq!(sent(&line), [raised]);
    told.tell(&[], |_| true);
    assert!(told.holds("pending_age") && sent(&line).is_empty(), "it may be back in a moment");
}

/// 1. A daemon tells of an alert, and is killed. 2. Another takes over, or it is started again. 3. The alert
/// is over by then, or still holds: the incident is ended once, and told of no second time.
#[test]
fn what_another_daemon_told_of_is_ended_under_its_id_and_not_told_twice() {
    let line = Line::default();
    let mut first = told(&line);
    let both = [alert("pending_age", Severity::Critical), alert("dead_letters", Severity::Warning)];
    first.tell(&both, |_| true);
    assert_eq!(sent(&line).len(), 2);
    let mut second = told(&line);
    second.take_over(&first.kept());
    second.tell(&both[1..], |_| true);
    assert_eq!(sent(&line), [of("resolved", "m1-pending_age")]);
    second.tell(&both[1..], |_| true);
    second.tell(&[], |_| true);
    assert_eq!(sent(&line), [of("resolved", "m1-dead_letters")]);
    // Where nothing of it is known, as PostgreSQL was away, the id is the same.
    told(&line).tell(&both[..1], |_| true);
    assert_eq!(sent(&line), [of("raised", "m1-pending_age")]);
}

#[test]
fn what_comes_again_has_the_id_of_its_alert_and_another_one_of_its_message() {
    let line = Line::default();
    let mut told = told(&line);
    let mut ids = std::collections::BTreeSet::new();
    for at in [1, 2] {
        let since = DateTime::from_timestamp(at, 0).expect("a moment");
        told.tell(&[Alert { since, ..alert("pending_age", Severity::Warning) }], |_| true);
        let Next::Send(message, _) = line.next(Instant::now()) else { panic!("it is told") };
        ids.insert(message["id"].to_string());
        assert_eq!(sent(&line), [of("raised", "m1-pending_age")]);
        told.tell(&[], |_| true);
        told.tell(&[], |_| true);
        assert_eq!(sent(&line), [of("resolved", "m1-pending_age")]);
    }
    assert_eq!(ids.len(), 2, "{ids:?}");
}

#[test]
fn what_was_given_up_is_told_again_while_it_holds_and_so_is_an_end() {
    let line = Line::default();
    let mut told = told(&line);
    let give_up = || {
        while let Next::Send(message, _) = line.next(Instant::now()) {
            line.give_up(&message);
        }
    };
    let holds = [alert("pending_age", Severity::Warning)];
    told.tell(&holds, |_| true);
    give_up();
    told.tell(&holds, |_| true);
    assert_eq!(sent(&line), [of("raised", "m1-pending_age")], "again, as it still holds");
    told.tell(&holds, |_| true);
    assert!(sent(&line).is_empty(), "it was taken");
    told.tell(&[], |_| true);
    give_up();
    told.tell(&[], |_| true);
    assert_eq!(sent(&line), [of("resolved", "m1-pending_age")], "or the incident would never close");
    told.tell(&[], |_| true);
    assert!(sent(&line).is_empty());
}

/// 1. A daemon is told to end while the receiver is away. 2. What it had told of by then is not what the
/// journal may say: the next one would say nothing of it.
#[test]
fn only_what_the_receiver_has_heard_is_kept_for_the_next_daemon() {
    let line = Line::default();
    let mut told = told(&line);
    let kept = |told: &mut Told| {
        let kept = told.kept();
        let kept = kept.as_array().expect("a list").iter();
        kept.map(|one| format!("{} {}", one["alert"], one["severity"]).replace('"', "")).collect::<Vec<_>>()
    };
    told.tell(&[alert("pending_age", Severity::Warning)], |_| true);
    assert!(kept(&mut told).is_empty(), "it waits");
    sent(&line);
    assert_eq!(kept(&mut told), ["pending_age warning"]);
    told.tell(&[alert("pending_age", Severity::Critical)], |_| true);
    assert_eq!(kept(&mut told), ["pending_age warning"], "that it is worse waits");
    sent(&line);
    assert_eq!(kept(&mut told), ["pending_age critical"]);
    told.tell(&[], |_| true);
    told.tell(&[], |_| true);
    assert_eq!(kept(&mut told), ["pending_age critical"], "its end waits");
    sent(&line);
    assert!(kept(&mut told).is_empty());
}

#[test]
fn what_others_tell_of_is_left_to_them() {
    let line = Line::default();
    let mut told = told(&line);
    let ours = |name: &str| name == "postgresql_down";
    told.tell(
        &[alert("pending_age", Severity::Critical), alert("postgresql_down", Severity::Critical)],
        ours,
    );
    assert_eq!(sent(&line), [of("raised", "m1-postgresql_down")]);
    told.tell(&[], ours);
    told.tell(&[], ours);
    assert_eq!(sent(&line), [of("resolved", "m1-postgresql_down")]);
}
