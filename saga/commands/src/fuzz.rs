//! What a command line reads from files, from people and from services, whatever it is.

use std::io::{Cursor, Read as _};

use crate::{age, input, problem};

#[test]
fn files_plain_or_gzip() {
    fuzz::drive("files", |bytes| {
        let Ok(mut plain) = input::plain(Cursor::new(bytes.to_vec())) else { return };
        // What a small file unpacks to may be large.
        let mut text = Vec::new();
        let read = plain.by_ref().take(1 << 20).read_to_end(&mut text);
        if !bytes.starts_with(&[0x1f, 0x8b]) {
            assert!(read.is_ok() && text == bytes);
        }
    });
}

#[test]
fn lengths_of_time() {
    fuzz::drive("arguments", |bytes| {
        let _ = age::parse(&String::from_utf8_lossy(bytes));
    });
}

#[test]
fn problems_that_services_answer() {
    fuzz::drive("problems", |bytes| {
        if let Ok(body) = serde_json::from_slice::<problem::Body>(bytes) {
            let _ = (body.is_key_reused(), format!("{body:?}"));
        }
    });
}
