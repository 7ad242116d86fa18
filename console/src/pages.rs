//! The pages: a file each, with its template.

pub mod act;
pub mod attention;
pub mod audit;
pub mod bulk;
pub mod jobs;
pub mod letters;
pub mod letters_all;
pub mod one;
pub mod overview;
pub mod sagas;
pub mod streams;
pub mod upgrade;
