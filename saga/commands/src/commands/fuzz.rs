//! Files of exported sagas, cut into chunks: no line is lost, none is made up.

use std::io::Cursor;
use std::ops::ControlFlow;

use super::chunks;

#[test]
fn exported_files() {
    fuzz::drive("saga_files", |input| {
        let expected = input.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).count();
        let mut lines = 0;
        let read = chunks::read(Cursor::new(input), |chunk| {
            lines += chunk.lines().count();
            ControlFlow::Continue(())
        });
        assert!(read.is_ok());
        assert_eq!(lines, expected);
    });
}
