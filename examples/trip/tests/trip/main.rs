//! Trips on real parts: every service a process of its own, the hotel a Python script.

mod console;
mod parts;
mod survival;

use std::time::Duration;

use serde_json::{Value, json};

use self::parts::{Parts, eventually};

const SOON: Duration = Duration::from_secs(40);

#[tokio::test(flavor = "multi_thread")]
async fn a_trip_is_booked_to_its_end_or_leaves_nothing_behind() {
    let Some(parts) = Parts::start(30).await else { return };
    let trip = parts.begin("Lisbon", 4).await;
    assert_eq!(parts.ends(&trip).await, "completed");
    assert_eq!(parts.held("trip_flight").await, 1);

    // Refused by the hotel, by the airline, and at the pivot: whatever was reserved beside or before it is given back.
    for (to, nights) in [("Atlantis", 4), ("Utopia", 4), ("Lisbon", 200)] {
        let refused = parts.begin(to, nights).await;
        assert_eq!(parts.ends(&refused).await, "compensated", "{to} for {nights} nights");
        assert_eq!(parts.held("trip_flight").await, 1, "{to} for {nights} nights");
        assert_eq!(parts.hotel_says(&refused).await.as_deref(), Some(if to == "Atlantis" { "refused" } else { "cancelled" }));
    }

    // The operators' commands, from the service, from a file, and from the broker alone.
    let shown = parts.trip(&["saga", "show", &trip]).await.expect("shown");
    assert!(shown.contains("book_hotel") && shown.contains("completed"), "{shown}");
    // Found by time, whatever became of them.
    let listed = parts.trip(&["saga", "list", "--created-from", "1h"]).await.expect("listed");
    assert!(listed.contains(&trip) && listed.contains("compensated"), "{listed}");
    let earlier = parts.trip(&["saga", "list", "--created-to", "1h"]).await.expect("listed");
    assert!(!earlier.contains(&trip), "{earlier}");
    parts.replays_alike().await;
    let replayed = parts.trip(&["saga", "replay", &trip, "--from", "nats"]).await.expect("replayed");
    assert!(replayed.contains("issue_ticket") && replayed.contains("no divergence"), "{replayed}");
    assert!(parts.stuck().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hotel_that_is_killed_answers_late_and_twice_and_holds_nothing_in_the_end() {
    let Some(parts) = Parts::start(3).await else { return };
    parts.kill("hotel");
    let trip = parts.begin("Lisbon", 4).await;
    // Asked again, given up at its deadline, and the flight is given back; the hotel may have booked all the same.
    // While it still waited for the booking it was stuck too, and for some seconds of the way back it is not: both in one answer.
    eventually(SOON, async || {
        let listed = parts.stuck().await;
        let of_it = listed.iter().find(|saga| saga["saga_id"] == *trip).ok_or(format!("{listed:?}"))?;
        if of_it["status"] == "compensating" { Ok(()) } else { Err(of_it.to_string()) }
    })
    .await;
    eventually(SOON, async || if parts.held("trip_flight").await == 0 { Ok(()) } else { Err("a seat is held".to_owned()) }).await;

    let table = parts.trip(&["saga", "list", "--stuck"]).await.expect("listed");
    assert!(table.contains(&trip), "{table}");

    // Back again it finds every command that it was sent: it books, late, several times, and cancels.
    parts.open_hotel().await;
    assert_eq!(parts.ends(&trip).await, "compensated");
    assert_eq!(parts.hotel_says(&trip).await.as_deref(), Some("cancelled"));

    // The first command once more, after its compensation: answered again, and nothing is booked.
    let entries = parts.history(&trip).await.len();
    let replies = parts.replies_of_the_hotel().await.len();
    parts.say_again("HOTEL_COMMANDS", 1).await;
    eventually(SOON, async || {
        let now = parts.replies_of_the_hotel().await.len();
        if now > replies { Ok(()) } else { Err(format!("{now} replies")) }
    })
    .await;
    let after = parts.begin("Lisbon", 1).await;
    assert_eq!(parts.ends(&after).await, "completed", "what comes after it is dealt with");
    assert_eq!(parts.hotel_says(&trip).await.as_deref(), Some("cancelled"));
    assert_eq!((parts.status(&trip).await.as_str(), parts.history(&trip).await.len()), ("compensated", entries));
    parts.replays_alike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_payment_the_ticket_is_asked_for_until_it_is_issued_and_an_operator_may_ask_at_once() {
    let Some(parts) = Parts::start(30).await else { return };
    parts.kill("ticket");
    let trip = parts.begin("Lisbon", 4).await;
    let attempts = |history: &[Value]| history.last().map_or(0, |entry| entry["sequence"].as_u64().unwrap_or_default());
    let asked = eventually(SOON, async || {
        let stuck = parts.stuck().await.iter().any(|saga| saga.to_string().contains("issue_ticket"));
        let asked = attempts(&parts.history(&trip).await);
        if stuck && asked > 5 { Ok(asked) } else { Err(format!("stuck: {stuck}, {asked} entries")) }
    })
    .await;
    // There is no way back, whoever asks for it.
    let refused = parts.trip(&["saga", "compensate", &trip, "--reason", "no ticket", "--yes"]).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(parts.status(&trip).await, "running");
    parts.trip(&["saga", "retry", &trip, "--reason", "it should be back", "--yes"]).await.expect("asked again");
    assert!(parts.history(&trip).await.iter().any(|entry| entry.to_string().contains("it should be back")));

    parts.run("ticket");
    assert_eq!(parts.ends(&trip).await, "completed");
    assert!(attempts(&parts.history(&trip).await) > asked);
    parts.replays_alike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_hotel_cannot_read_goes_to_the_dead_letters_and_stops_nobody() {
    let Some(parts) = Parts::start(30).await else { return };
    for payload in ["no JSON", "7", r#"[{"type":"trip.hotel.paint.v1","data":{"trip_id":"a"}},{"type":"trip.hotel.book.v1"},5]"#]
    {
        parts.send("commands.hotel.book", payload).await;
    }
    let trip = parts.begin("Lisbon", 4).await;
    assert_eq!(parts.ends(&trip).await, "completed");
    let letters = parts.dead_letters().await;
    let painted = r#"[{"type": "trip.hotel.paint.v1", "data": {"trip_id": "a"}}]"#;
    let held: Vec<&str> = letters.iter().map(|(_, held)| held.as_str()).collect();
    assert_eq!(held, ["no JSON", "7", painted, r#"[{"type": "trip.hotel.book.v1"}]"#, "[5]"]);
    assert!(letters.iter().all(|(consumer, _)| consumer == "hotel"), "{letters:?}");
}

#[test]
fn the_migrations_are_the_texts_of_the_tables() {
    let sagas = include_str!("../../migrations/service/0001_sagas.sql");
    let [outbox, races] =
        [include_str!("../../migrations/service/0002_outbox.sql"), include_str!("../../migrations/service/0003_races.sql")];
    assert_eq!((sagas, outbox, races), (saga_runtime::SAGAS_SQL, chassis::OUTBOX_SQL, saga_runtime::RACES_SQL));
    assert_eq!(include_str!("../../migrations/service/0004_tracestate.sql"), saga_runtime::TRACESTATE_SQL);
    assert_eq!(include_str!("../../migrations/service/0005_actions.sql"), saga_runtime::ACTIONS_SQL);
    let outbox = include_str!("../../migrations/participant/0001_outbox.sql");
    let replies = include_str!("../../migrations/participant/0002_replies.sql");
    let expire = include_str!("../../migrations/participant/0004_replies_expire.sql");
    let texts = (chassis::OUTBOX_SQL, saga_runtime::participant::REPLIES_SQL, saga_runtime::participant::REPLIES_EXPIRE_SQL);
    assert_eq!((outbox, replies, expire), texts);
}

#[test]
fn every_step_has_what_it_needs() {
    saga_runtime::verify::<trip::saga::Trip>(&trip::saga::TOPOLOGY).expect("nothing is missing");
    assert_eq!(json!(trip::saga::Step::BookHotel), "book_hotel");
}
