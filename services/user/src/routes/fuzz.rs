//! Users as strangers send them.

use chassis::http::Object;

use super::{ChangeBody, CreateBody, Email, Name};

#[test]
fn bodies_are_users_or_are_refused() {
    fuzz::drive("users", |input| {
        if let Ok(Object(body)) = serde_json::from_slice::<Object<CreateBody>>(input) {
            if let Ok(email) = Email::new(&body.email) {
                assert!(Email::new(email.as_str()).is_ok_and(|again| again.as_str() == email.as_str()), "{email:?}");
            }
            if let Ok(name) = Name::new(&body.name) {
                assert!((1..=200).contains(&name.as_str().chars().count()), "{name:?}");
            }
        }
        if let Ok(Object(body)) = serde_json::from_slice::<Object<ChangeBody>>(input) {
            let _ = body.name.map(|name| Name::new(&name).map_err(|why| why.to_string()));
            let _ = body.active;
        }
    });
}
