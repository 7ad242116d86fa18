//! What the user service does: creates and changes users, and says who may order.

use std::collections::HashMap;

use chassis::{Handled, Handler, InTransaction, NewEvent, OneStatement, Outgoing, ReadConnection};
use chrono::Utc;
use events::event_subject;
use events::streams::USER_REPLIES;
use events::user::{Command, Created, Event, Refused, Reply, Updated, User, Validated};
use events::{CloudEvent, Reason, ReasonCode, UserId};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::requests::{Change, NewUser};
use crate::{SOURCE, store};

/// Answers whether users may order: one query for the whole batch.
pub struct Validate;

impl Handler for Validate {
    type Item = CloudEvent<Command>;
    type Output = ();
    type Shape = OneStatement;
    const NAME: &'static str = "validate_users";

    async fn handle(&self, db: &mut ReadConnection, batch: &[&Self::Item]) -> anyhow::Result<Handled<()>> {
        let ids: Vec<Uuid> = batch.iter().map(|event| user_of(event).0).collect();
        let known: HashMap<Uuid, bool> = store::activity(db, &ids).await?.into_iter().collect();
        let mut outgoing = Outgoing::new(SOURCE, Utc::now());
        for event in batch {
            let active = known.get(&user_of(event).0).copied();
            outgoing.send(USER_REPLIES, NewEvent::<Reply>::reply(event, judge(&event.message, active)))?;
        }
        Ok(Handled::new(vec![(); batch.len()], outgoing))
    }
}

/// Whether a user may order. Pure. `active` is `None` where nobody has that id.
pub fn judge(command: &Command, active: Option<bool>) -> Reply {
    let Command::Validate(validate) = command;
    let (order_id, user_id) = (validate.order_id, validate.user_id);
    let refused = |code, detail: String| Refused { order_id, user_id, reason: Reason::new(code, detail) }.into();
    match active {
        Some(true) => Validated { order_id, user_id }.into(),
        Some(false) => refused(ReasonCode::UserInactive, format!("the user {user_id} is not active")),
        None => refused(ReasonCode::UserNotFound, format!("there is no user {user_id}")),
    }
}

fn user_of(event: &CloudEvent<Command>) -> UserId {
    let Command::Validate(validate) = &event.message;
    validate.user_id
}

/// Creates users.
pub struct Create;

/// What became of it.
#[derive(Clone, Debug)]
pub enum Creation {
    Created(User),
    /// The key was used for this very user before.
    Replayed(User),
    /// The key was used for another.
    KeyReused,
    EmailTaken,
}

impl Handler for Create {
    type Item = NewUser;
    type Output = Creation;
    type Shape = InTransaction;
    const NAME: &'static str = "create_users";

    async fn handle(&self, tx: &mut PgConnection, batch: &[&NewUser]) -> anyhow::Result<Handled<Creation>> {
        let created: HashMap<UserId, User> = store::insert(tx, batch).await?.into_iter().map(|user| (user.id, user)).collect();
        let mut outgoing = Outgoing::new(SOURCE, Utc::now());
        let mut outputs = Vec::with_capacity(batch.len());
        for new in batch {
            if let Some(user) = created.get(&new.id) {
                let event = NewEvent::<Event>::event(format!("{}/created", user.id), user.id, Created(user.clone()));
                outgoing.publish_event(event_subject("user", "created", &user.id), event)?;
                outputs.push(Creation::Created(user.clone()));
                continue;
            }
            // Not inserted: the key or the address is taken. A new statement sees by whom.
            let earlier = match &new.key {
                Some(key) => store::by_key(tx, key).await?,
                None => None,
            };
            outputs.push(match earlier {
                Some((user, request)) if request == new.request() => Creation::Replayed(user),
                Some(_) => Creation::KeyReused,
                None => Creation::EmailTaken,
            });
        }
        Ok(Handled::new(outputs, outgoing))
    }
}

/// Changes users.
pub struct Update;

impl Handler for Update {
    type Item = Change;
    type Output = Option<User>;
    type Shape = InTransaction;
    const NAME: &'static str = "change_users";

    async fn handle(&self, tx: &mut PgConnection, batch: &[&Change]) -> anyhow::Result<Handled<Option<User>>> {
        let mut outgoing = Outgoing::new(SOURCE, Utc::now());
        let mut outputs = Vec::with_capacity(batch.len());
        for change in batch {
            let user = store::update(tx, change).await?;
            if let Some(user) = &user {
                let event = NewEvent::<Event>::event(Uuid::now_v7(), user.id, Updated(user.clone()));
                outgoing.publish_event(event_subject("user", "updated", &user.id), event)?;
            }
            outputs.push(user);
        }
        Ok(Handled::new(outputs, outgoing))
    }

    fn rows(&self, change: &Change) -> Vec<Uuid> {
        vec![change.id.0]
    }

    async fn held(&self, db: &mut PgConnection, batch: &[&Change]) -> anyhow::Result<Vec<Vec<Uuid>>> {
        let ids: Vec<Uuid> = batch.iter().map(|change| change.id.0).collect();
        let held = store::held(db, &ids).await?;
        Ok(ids.into_iter().map(|id| if held.contains(&id) { vec![id] } else { Vec::new() }).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use events::OrderId;
    use events::user::Validate as Ask;

    #[test]
    fn only_an_active_user_may_order() {
        let ask: Command = Ask { order_id: OrderId(Uuid::nil()), user_id: UserId(Uuid::nil()) }.into();
        let code = |reply| match reply {
            Reply::Validated(_) => None,
            Reply::Refused(refused) => Some(refused.reason.code),
        };
        assert_eq!(code(judge(&ask, Some(true))), None);
        assert_eq!(code(judge(&ask, Some(false))), Some(ReasonCode::UserInactive));
        assert_eq!(code(judge(&ask, None)), Some(ReasonCode::UserNotFound));
    }
}
