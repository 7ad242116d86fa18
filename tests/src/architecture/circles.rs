//! Import circles between the files of a crate, read from its sources: files that need each other can neither be understood nor changed
//! one by one.
//!
//! A file imports another if it names a path into it, in a `use` or in its code. A `pub use` is a shop window, not an import: a path
//! through it leads to the file that declares the name. Tests import what they test, and nothing imports tests.

use std::collections::{BTreeMap, BTreeSet};

/// A module, by its path from the root of the crate; the root is empty.
pub type Module = Vec<String>;

/// The files of a crate by their modules, tests left out.
pub struct Sources {
    code: BTreeMap<Module, String>,
    /// What each file shows under a name of its own: imported, or shown in its window.
    shown: BTreeMap<Module, BTreeMap<String, Module>>,
}

impl Sources {
    /// Reads files, each with its path below `src`.
    pub fn new<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let files: BTreeMap<Module, &str> = files.into_iter().map(|(path, text)| (module(path), text)).collect();
        let tests: BTreeSet<Module> = files.iter().flat_map(|(file, text)| tests_of(file, text)).collect();
        let is_code = |file: &Module| (1..=file.len()).all(|length| !tests.contains(&file[..length]));
        let code = files.into_iter().filter(|(file, _)| is_code(file)).map(|(file, text)| (file, code_of(text)));
        let code: BTreeMap<Module, String> = code.collect();
        let shown = code.iter().map(|(file, text)| (file.clone(), shown(file, text))).collect();
        Self { code, shown }
    }

    /// Every group of files that need each other, each group sorted.
    pub fn circles(&self) -> Vec<Vec<Module>> {
        let reach: BTreeMap<&Module, BTreeSet<Module>> = self.code.keys().map(|file| (file, self.reachable(file))).collect();
        let mut circles: Vec<Vec<Module>> = Vec::new();
        for (file, reached) in &reach {
            let circle: Vec<Module> = reached.iter().filter(|other| reach[other].contains(*file)).cloned().collect();
            if circle.contains(file) && !circles.contains(&circle) {
                circles.push(circle);
            }
        }
        circles
    }

    /// The files that a file imports, directly or through others.
    fn reachable(&self, file: &Module) -> BTreeSet<Module> {
        let (mut reached, mut next) = (BTreeSet::new(), vec![file.clone()]);
        while let Some(file) = next.pop() {
            next.extend(self.imports(&file).into_iter().filter(|import| reached.insert(import.clone())));
        }
        reached
    }

    /// The files that a file imports.
    fn imports(&self, file: &Module) -> BTreeSet<Module> {
        let text = &self.code[file];
        let (used, code) = uses(text);
        let used = used.into_iter().filter(|(is_public, ..)| !is_public).map(|(_, path, _)| path);
        let modules = declared(text);
        let paths = used.chain(paths(&code, &modules)).filter_map(|path| absolute(file, &modules, &path));
        paths.map(|path| self.file_of(path)).filter(|import| import != file).collect()
    }

    /// The file that declares what a path leads to.
    fn file_of(&self, path: Module) -> Module {
        let mut file = Module::new();
        for (at, name) in path.iter().enumerate() {
            let child: Module = file.iter().chain([name]).cloned().collect();
            if self.code.contains_key(&child) {
                file = child;
            } else if let Some(elsewhere) = self.shown[&file].get(name).filter(|elsewhere| elsewhere[..] != path[..=at]) {
                return self.file_of(elsewhere.iter().chain(&path[at + 1..]).cloned().collect());
            } else {
                break;
            }
        }
        file
    }
}

/// `a/b.rs` is `a::b`.
fn module(path: &str) -> Module {
    let mut module: Module = path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if module.last().is_some_and(|last| ["lib", "main", "mod"].contains(&last.as_str())) {
        module.pop();
    }
    module
}

/// The files that a file declares for tests only.
fn tests_of(file: &Module, text: &str) -> Vec<Module> {
    let tests = text.split("#[cfg(test)]\n").skip(1).chain(text.split("#[cfg(doctest)]\n").skip(1));
    let names = tests.filter_map(|rest| rest.lines().next()?.trim().strip_prefix("mod ")?.strip_suffix(';'));
    names.map(|name| file.iter().cloned().chain([name.to_owned()]).collect()).collect()
}

/// Without comments, and without the tests at its end.
fn code_of(text: &str) -> String {
    let text = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Every `use`: whether it is public, its path, and the name it gives; and the code without them.
fn uses(text: &str) -> (Vec<(bool, String, String)>, String) {
    let (mut uses, mut code, mut open) = (Vec::new(), String::new(), None::<(bool, String)>);
    for line in text.lines() {
        let trimmed = line.trim_start();
        let begins = match trimmed.strip_prefix("pub").map(|rest| rest.split_once("use ")) {
            Some(Some((visibility, tree))) if visibility.trim().is_empty() || visibility.starts_with('(') => Some((true, tree)),
            _ => trimmed.strip_prefix("use ").map(|tree| (false, tree)),
        };
        match (&mut open, begins) {
            (Some((_, tree)), _) => tree.push_str(trimmed),
            (None, Some((is_public, tree))) => open = Some((is_public, tree.to_owned())),
            (None, None) => code = code + line + "\n",
        }
        if let Some((is_public, tree)) = open.take_if(|(_, tree)| tree.contains(';')) {
            let names = spread("", tree.split(';').next().unwrap_or_default());
            uses.extend(names.into_iter().map(|(path, name)| (is_public, path, name)));
        }
    }
    (uses, code)
}

/// `a::{b, c as d}` is `a::b` and `a::c`, the latter under the name `d`.
fn spread(prefix: &str, tree: &str) -> Vec<(String, String)> {
    let (mut depth, mut parts, mut part) = (0, Vec::new(), String::new());
    for letter in tree.chars() {
        depth += i32::from(letter == '{') - i32::from(letter == '}');
        if letter == ',' && depth == 0 {
            parts.push(std::mem::take(&mut part));
        } else {
            part.push(letter);
        }
    }
    parts.push(part);
    let mut paths = Vec::new();
    for part in parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty()) {
        if let Some((outer, inner)) = part.strip_suffix('}').and_then(|part| part.split_once('{')) {
            paths.extend(spread(&format!("{prefix}{outer}"), inner));
            continue;
        }
        let (path, name) = part.split_once(" as ").unwrap_or((part, ""));
        let path = format!("{prefix}{path}").trim().trim_end_matches("::self").to_owned();
        let name = if name.is_empty() { path.rsplit("::").next().unwrap_or_default().to_owned() } else { name.trim().to_owned() };
        paths.push((path, name));
    }
    paths
}

/// The files that a file declares as its own: `mod name;`.
fn declared(text: &str) -> BTreeSet<String> {
    let names = text.lines().filter_map(|line| line.trim().strip_suffix(';')?.rsplit_once("mod ").map(|(_, name)| name));
    names.filter(|name| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')).map(str::to_owned).collect()
}

/// Every path in code that leads into this crate.
fn paths(code: &str, modules: &BTreeSet<String>) -> Vec<String> {
    let words = code.split(|letter: char| !(letter.is_alphanumeric() || letter == '_' || letter == ':'));
    let ours = |word: &&str| {
        let first = word.split("::").next().unwrap_or_default();
        word.contains("::") && (["crate", "super", "self"].contains(&first) || modules.contains(first))
    };
    words.filter(ours).map(|word| word.trim_end_matches(':').to_owned()).collect()
}

/// A path from the root of the crate; `None`: it leads elsewhere.
fn absolute(file: &Module, modules: &BTreeSet<String>, path: &str) -> Option<Module> {
    let mut names = path.split("::").map(str::to_owned).peekable();
    let mut base = match names.peek()?.as_str() {
        "crate" => Module::new(),
        "self" | "super" => file.clone(),
        name if modules.contains(name) => file.iter().cloned().chain([names.next()?]).collect(),
        _ => return None,
    };
    while let Some(name) = names.next_if(|name| ["crate", "self", "super"].contains(&name.as_str())) {
        if name == "super" {
            base.pop();
        }
    }
    base.extend(names);
    Some(base)
}

fn shown(file: &Module, text: &str) -> BTreeMap<String, Module> {
    let modules = declared(text);
    let names = uses(text).0.into_iter().filter_map(|(_, path, name)| Some((name, absolute(file, &modules, &path)?)));
    names.collect()
}

#[test]
fn files_that_need_each_other_are_found() {
    let circles = |files: &[(&str, &str)]| {
        let found = Sources::new(files.iter().copied()).circles();
        found.iter().map(|circle| circle.iter().map(|file| file.join("::")).collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    let root = "mod a;\npub mod b;\npub use a::Thing;";
    assert_eq!(circles(&[("lib.rs", root), ("a.rs", "use crate::b;"), ("b.rs", "fn f() { crate::a::g() }")]), ["a b"]);
    assert_eq!(circles(&[("lib.rs", root), ("a.rs", "use crate::b::{self, x};"), ("b.rs", "use super::Thing;")]), ["a b"]);
    assert_eq!(circles(&[("lib.rs", root), ("a.rs", "use crate::b;"), ("b.rs", "// crate::a is above this file")]), [""; 0]);
    // A parent and its child, and three in a row.
    assert_eq!(circles(&[("main.rs", "mod a;"), ("a.rs", "mod c;\nuse self::c::F;"), ("a/c.rs", "use super::T;")]), ["a a::c"]);
    let three = [
        ("lib.rs", "mod a;\nmod b;\nmod c;"),
        ("a.rs", "use crate::b::T;"),
        ("b.rs", "use crate::c;"),
        ("c.rs", "use crate::a;"),
    ];
    assert_eq!(circles(&three), ["a b c"]);
    // Of files for tests only, their own imports are none.
    let test =
        [("lib.rs", "mod a;\n#[cfg(test)]\nmod kit;"), ("a.rs", "fn f() { crate::kit::g() }"), ("kit.rs", "use crate::a;")];
    assert_eq!(circles(&test), [""; 0]);
    // The window of the root is no import of the root, and tests are nobody's.
    let tested = "use crate::b;\n\n#[cfg(test)]\nmod tests {\n    use crate::c::T;\n}";
    assert_eq!(circles(&[("lib.rs", root), ("a.rs", tested), ("b.rs", ""), ("c.rs", "use crate::a;")]), [""; 0]);
}
