//! The checks, each over all rows, streaming: memory does not grow with the number of orders.

use std::collections::HashMap;
use std::time::Duration;

use chassis::causes;
use chrono::{DateTime, Utc};
use futures_util::{Stream, TryStreamExt as _};
use sqlx::Row as _;
use uuid::Uuid;

use super::books::{Books, Check, Finding};
use super::rows::{self, Lines, Order, Reservation};

/// How often what looks wrong is looked at again, and how long between: longer than a message takes.
const LOOKS: usize = 5;
const LOOK_EVERY: Duration = Duration::from_millis(400);

/// Looks at the clock of the sagas, which a running order service carries on every second.
const CLOCK_LOOKS: usize = 12;

/// What each check proves.
pub const IN_TIME: &str = "every order is final or within its deadline";
pub const CONSERVED: &str = "for each product: received = available + reserved";
pub const HELD: &str = "for each product: reserved = the sum of its reservations";
pub const MATCHED: &str = "reservations and orders match line by line";
pub const WHOLE: &str = "every order's history is whole";

/// Every check. One that cannot be made is a finding; the others are made all the same.
pub async fn all(books: &Books) -> Vec<Check> {
    let made = |check, made: anyhow::Result<Check>| {
        made.unwrap_or_else(|error| {
            let what = format!("it could not be made: {}", causes(&error));
            Check { check, rows: 0, findings: vec![Finding { id: "this check".to_owned(), what }] }
        })
    };
    vec![
        made(IN_TIME, in_time(books).await),
        made(CONSERVED, conserved(books).await),
        made(HELD, held(books).await),
        made(MATCHED, matched(books).await),
        made(WHOLE, whole(books).await),
    ]
}

/// Every order is final or within its deadline, by the clock that deadlines go by. Where that stands still, nobody keeps them.
pub async fn in_time(books: &Books) -> anyhow::Result<Check> {
    let rows: i64 = sqlx::query_scalar("select count(*) from orders").fetch_one(&books.orders).await?;
    let late = sqlx::query(
        "select id, status, state::text as state, extract(epoch from now() - created_at)::bigint as age \
         from orders, saga_clock as clock \
         where not settled and (due_at < clock.at - make_interval(secs => $1) \
                                or waiting_since < clock.at - make_interval(secs => $2) - make_interval(secs => $1)) order by id",
    )
    .bind(books.grace.as_secs_f64())
    .bind(books.patience.as_secs_f64())
    .fetch_all(&books.orders)
    .await?;
    let finding = |row: &sqlx::postgres::PgRow| -> sqlx::Result<Finding> {
        let (id, status): (Uuid, String) = (row.try_get("id")?, row.try_get("status")?);
        let (state, age): (String, i64) = (row.try_get("state")?, row.try_get("age")?);
        Ok(Finding { id: id.to_string(), what: format!("{status} for {age} s, past its deadline: {state}") })
    };
    let mut findings: Vec<Finding> = late.iter().map(finding).collect::<sqlx::Result<_>>()?;
    findings.extend(abandoned(books).await?);
    Ok(Check { check: IN_TIME, rows: rows.unsigned_abs(), findings })
}

/// The oldest order under way, if it has not moved within the grace and no order service is there to carry it on.
async fn abandoned(books: &Books) -> anyhow::Result<Option<Finding>> {
    let oldest = "select id, count(*) over () from orders \
                  where not settled and updated_at < now() - make_interval(secs => $1) order by id limit 1";
    let oldest: Option<(Uuid, i64)> =
        sqlx::query_as(oldest).bind(books.grace.as_secs_f64()).fetch_optional(&books.orders).await?;
    let Some((id, count)) = oldest else { return Ok(None) };
    let clock = async || sqlx::query_scalar::<_, DateTime<Utc>>("select at from saga_clock").fetch_one(&books.orders).await;
    let before = clock().await?;
    for _ in 0..CLOCK_LOOKS {
        tokio::time::sleep(LOOK_EVERY).await;
        if clock().await? != before {
            return Ok(None);
        }
    }
    let what = format!("not settled, as {} more: no order service is running to carry them on", count - 1);
    Ok(Some(Finding { id: id.to_string(), what }))
}

/// The entries of every history count from one, without a gap, to where its order stands.
pub async fn whole(books: &Books) -> anyhow::Result<Check> {
    // One statement sees one moment.
    let mut orders = sqlx::query(
        "select id, sequence, coalesce(entries, 0)::bigint as entries, coalesce(last, 0) as last from orders \
         left join (select order_id, count(*) as entries, max(sequence) as last from order_history group by order_id) as histories \
                on order_id = id",
    )
    .fetch(&books.orders);
    let (mut rows, mut findings) = (0, Vec::new());
    while let Some(row) = orders.try_next().await? {
        rows += 1;
        let (id, sequence): (Uuid, i32) = (row.try_get("id")?, row.try_get("sequence")?);
        let (entries, last): (i64, i32) = (row.try_get("entries")?, row.try_get("last")?);
        if last != sequence || entries != i64::from(sequence) {
            let what = format!("its history has {entries} entries, the last is {last}, and the order stands at {sequence}");
            findings.push(Finding { id: id.to_string(), what });
        }
    }
    Ok(Check { check: WHOLE, rows, findings })
}

/// For each product, what was received is available or reserved.
pub async fn conserved(books: &Books) -> anyhow::Result<Check> {
    // One statement sees one moment.
    let mut products = sqlx::query(
        "select id, stock, reserved, coalesce(received, 0)::bigint as received from products \
         left join (select product_id, sum(delta) as received from stock_changes group by product_id) as changes \
                on product_id = id order by id",
    )
    .fetch(&books.products);
    let (mut rows, mut findings) = (0, Vec::new());
    while let Some(row) = products.try_next().await? {
        rows += 1;
        let (id, stock): (Uuid, i64) = (row.try_get("id")?, row.try_get("stock")?);
        let (reserved, received): (i64, i64) = (row.try_get("reserved")?, row.try_get("received")?);
        if received != stock + reserved || stock < 0 || reserved < 0 {
            let what = format!("received {received}, but {stock} are available and {reserved} reserved");
            findings.push(Finding { id: id.to_string(), what });
        }
    }
    Ok(Check { check: CONSERVED, rows, findings })
}

/// For each product, what is reserved is what its reservations hold. A reservation that cannot be read is named, and counts for nothing.
pub async fn held(books: &Books) -> anyhow::Result<Check> {
    // Two statements that see one moment.
    let mut moment = books.products.begin_with("begin isolation level repeatable read read only").await?;
    let (mut rows, mut findings, mut holds) = (0, Vec::new(), HashMap::<Uuid, i64>::new());
    let mut reservations = sqlx::query(rows::HOLDS).fetch(&mut *moment);
    while let Some(row) = reservations.try_next().await? {
        let reservation = rows::reservation(&row)?;
        match reservation.lines {
            Ok(lines) => lines.iter().for_each(|(product, (pieces, _))| *holds.entry(*product).or_default() += pieces),
            Err(why) => findings.push(unreadable(reservation.id, "reservation", &why)),
        }
    }
    drop(reservations);
    let mut products = sqlx::query("select id, reserved from products order by id").fetch(&mut *moment);
    while let Some(row) = products.try_next().await? {
        rows += 1;
        let (id, reserved): (Uuid, i64) = (row.try_get("id")?, row.try_get("reserved")?);
        let held = holds.get(&id).copied().unwrap_or_default();
        if reserved != held {
            findings.push(Finding { id: id.to_string(), what: format!("{reserved} are reserved, but reservations hold {held}") });
        }
    }
    drop(products);
    moment.rollback().await?;
    Ok(Check { check: HELD, rows, findings })
}

fn unreadable(id: Uuid, what: &str, why: &str) -> Finding {
    Finding { id: id.to_string(), what: format!("the {what} cannot be read: {why}") }
}

/// Reservations and orders match line by line: two sorted streams, laid side by side.
pub async fn matched(books: &Books) -> anyhow::Result<Check> {
    let mut orders = sqlx::query(rows::ORDERS).fetch(&books.orders).map_err(anyhow::Error::from);
    let mut reservations = sqlx::query(rows::RESERVATIONS).fetch(&books.products).map_err(anyhow::Error::from);
    let (mut order, mut reservation) = (next(&mut orders, rows::order).await?, next(&mut reservations, rows::reservation).await?);
    let (mut rows, mut doubtful) = (0, Vec::new());
    loop {
        let id = match (&order, &reservation) {
            (None, None) => break,
            (Some(order), None) => order.id,
            (None, Some(reservation)) => reservation.id,
            (Some(order), Some(reservation)) => order.id.min(reservation.id),
        };
        rows += 1;
        let mine = order.take_if(|order| order.id == id);
        let held = reservation.take_if(|reservation| reservation.id == id);
        if judge(mine.as_ref(), held.as_ref()).is_some() {
            doubtful.push(id);
        }
        if mine.is_some() {
            order = next(&mut orders, rows::order).await?;
        }
        if held.is_some() {
            reservation = next(&mut reservations, rows::reservation).await?;
        }
    }
    drop((orders, reservations));
    let findings = look_again(books, doubtful).await?;
    Ok(Check { check: MATCHED, rows, findings })
}

async fn next<T>(
    stream: &mut (impl Stream<Item = anyhow::Result<sqlx::postgres::PgRow>> + Unpin),
    read: impl Fn(&sqlx::postgres::PgRow) -> sqlx::Result<T>,
) -> anyhow::Result<Option<T>> {
    Ok(stream.try_next().await?.as_ref().map(read).transpose()?)
}

/// An order that moved between the two readings is in order by now; what is wrong stays wrong.
async fn look_again(books: &Books, mut doubtful: Vec<Uuid>) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for _ in 0..LOOKS {
        if doubtful.is_empty() {
            break;
        }
        tokio::time::sleep(LOOK_EVERY).await;
        findings.clear();
        let mut still = Vec::new();
        for id in doubtful {
            let order = rows::order_now(&books.orders, id).await?;
            let reservation = rows::reservation_now(&books.products, id).await?;
            if let Some(what) = judge(order.as_ref(), reservation.as_ref()) {
                findings.push(Finding { id: id.to_string(), what });
                still.push(id);
            }
        }
        doubtful = still;
    }
    Ok(findings)
}

/// What is wrong with an order and its reservation; `None`: nothing.
fn judge(order: Option<&Order>, reservation: Option<&Reservation>) -> Option<String> {
    match (order, reservation) {
        (None, None) => None,
        (None, Some(held)) => Some(format!(
            "stock is held for an order that does not exist; to give it back: waybill product release {} --reason TEXT",
            held.id
        )),
        (Some(Order { id, lines: Err(why), .. }), None) => Some(unreadable(*id, "order", why).what),
        (Some(order), None) if order.status == "confirmed" => Some("the order is confirmed, but holds no stock".to_owned()),
        (Some(_), None) => None,
        (Some(order), Some(reservation)) => match order.status.as_str() {
            "rejected" | "cancelled" => Some(format!(
                "the order is {}, but stock is held for it; to give it back: waybill product release {} --reason TEXT",
                order.status, order.id
            )),
            status => match (&order.lines, &reservation.lines) {
                (Ok(ordered), Ok(held)) => lines_differ(ordered, held, status == "confirmed"),
                (Err(why), _) => Some(unreadable(order.id, "order", why).what),
                (_, Err(why)) => Some(unreadable(reservation.id, "reservation", why).what),
            },
        },
    }
}

fn lines_differ(order: &Lines, reservation: &Lines, priced: bool) -> Option<String> {
    let products = order.keys().chain(reservation.keys());
    products.into_iter().find_map(|product| match (order.get(product), reservation.get(product)) {
        (Some((ordered, _)), Some((held, _))) if ordered != held => {
            Some(format!("product {product}: {ordered} ordered, {held} held"))
        }
        (Some((_, paid)), Some((_, price))) if priced && paid != price => {
            Some(format!("product {product}: confirmed at {paid:?}, reserved at {price:?}"))
        }
        (Some(_), Some(_)) => None,
        (Some(_), None) => Some(format!("product {product}: ordered, not held")),
        (None, _) => Some(format!("product {product}: held, not ordered")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(status: &str, lines: &[(u128, i64, Option<i64>)]) -> Order {
        Order { id: Uuid::nil(), status: status.to_owned(), lines: Ok(of(lines)) }
    }

    fn reservation(lines: &[(u128, i64, Option<i64>)]) -> Reservation {
        Reservation { id: Uuid::nil(), lines: Ok(of(lines)) }
    }

    fn of(lines: &[(u128, i64, Option<i64>)]) -> Lines {
        lines.iter().map(|(product, pieces, price)| (Uuid::from_u128(*product), (*pieces, *price))).collect()
    }

    #[test]
    fn what_agrees_is_no_finding() {
        let held = reservation(&[(1, 2, Some(100))]);
        assert_eq!(judge(Some(&order("confirmed", &[(1, 2, Some(100))])), Some(&held)), None);
        assert_eq!(judge(Some(&order("pending", &[(1, 2, None)])), Some(&held)), None);
        assert_eq!(judge(Some(&order("pending", &[(1, 2, None)])), None), None);
        assert_eq!(judge(Some(&order("rejected", &[(1, 2, None)])), None), None);
    }

    #[test]
    fn whatever_disagrees_is_a_finding() {
        let held = reservation(&[(1, 2, Some(100))]);
        for wrong in [
            judge(None, Some(&held)),
            judge(Some(&order("confirmed", &[(1, 2, Some(100))])), None),
            judge(Some(&order("rejected", &[(1, 2, None)])), Some(&held)),
            judge(Some(&order("cancelled", &[(1, 2, None)])), Some(&held)),
            judge(Some(&order("confirmed", &[(1, 3, Some(100))])), Some(&held)),
            judge(Some(&order("confirmed", &[(1, 2, Some(101))])), Some(&held)),
            judge(Some(&order("confirmed", &[(1, 2, Some(100)), (2, 1, Some(1))])), Some(&held)),
            judge(Some(&order("confirmed", &[])), Some(&held)),
        ] {
            assert!(wrong.is_some());
        }
    }
}
