//! Wrong usage: what is said of it, and that no value breaks a command.

use super::{ITEM, USER, nowhere, run, told, waybill};

const ORDER: &str = "01920000-0000-7000-8000-00000000000c";

#[test]
fn an_error_names_what_can_be_named_and_where_to_find_it() {
    for (args, parts) in [
        (&["saga", "show"][..], &["<ORDER>", "`waybill order list` shows"][..]),
        (&["saga", "show", "17"], &["`17` is not a UUID", "`waybill order list` shows"]),
        (&["saga", "export"], &["<ORDER|--all>", "`waybill order list` shows"]),
        (&["saga", "replay"], &["<ORDER|--all>"]),
        (&["saga", "retry"], &["--reason <TEXT>", "<ORDER>"]),
        (&["saga", "retry", ORDER, "--reason", " ", "--yes"], &["--reason is empty"]),
        (&["saga", "list", "--status", "lost"], &["pending, confirmed, rejected, cancelling, cancelled"]),
        (&["saga", "list", "--step", "x"], &["validate_user, reserve_stock"]),
        (&["saga", "list", "--user", "x"], &["`x` is not a UUID", "`waybill user list` shows"]),
        (&["saga", "replay", "--all", "--jobs", "-1"], &["--jobs", "-1"]),
        (&["order", "show"], &["<ORDER>", "`waybill order list` shows"]),
        (&["order", "cancel", "x"], &["`x` is not a UUID"]),
        (&["order", "submit"], &["--user <USER>", "--item <PRODUCT=QUANTITY>", "`waybill user list`", "`waybill product list`"]),
        (&["order", "submit", "--user", USER, "--item", "tea=1"], &["`tea` is not a UUID", "`waybill product list`"]),
        (&["order", "submit", "--user", USER, "--item", "tea"], &["PRODUCT=QUANTITY"]),
        (&["order", "list", "--limit", "-1"], &["`-1` is not a whole number from 1 to 200"]),
        (&["user", "show", "ada"], &["`ada` is not a UUID", "`waybill user list` shows"]),
        (&["user", "update", USER], &["<--name <NAME>|--active <true|false>>"]),
        (&["product", "show"], &["<PRODUCT>", "`waybill product list` shows"]),
        (&["product", "create", "--name", "Tea"], &["<--price <AMOUNT>|--price-minor <CENTS>>"]),
        (
            &["product", "create", "--name", "Tea", "--price", "1", "--stock", "-1"],
            &["`-1` is not a whole number from 0 to 1000000000"],
        ),
        (&["product", "release"], &["<RESERVATION>", "`waybill audit` names"]),
        (&["dead-letter", "show", "x"], &["`x` is not a whole number from 1 on", "`waybill dead-letter list` shows"]),
        (&["dead-letter", "redrive"], &["<SEQUENCE|--all>", "`waybill dead-letter list` shows"]),
        (&["dead-letter", "drop", "17", "--all"], &["cannot be used with"]),
        (&["events", "tail", "x"], &["`x` is not a UUID"]),
        (&["saga"], &["show, replay, export"]),
        (&["completions"], &["<SHELL>"]),
        (&["completions", "tcsh"], &["bash, elvish, fish, powershell, zsh"]),
    ] {
        let (code, stdout, stderr) = run(&nowhere(), args);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{args:?}: {stderr}");
        for part in parts {
            assert!(stderr.contains(part), "{args:?} does not say {part}: {stderr}");
        }
    }
}

/// Every flag that takes a value, with what it needs beside it to be looked at. Those that would wait for a broker are left out; that each value is
/// read without panic the commands' own tests show.
#[test]
fn the_largest_number_in_any_flag_breaks_no_command() {
    let flags = |path: &[&str]| {
        let (_, help, _) = run(&nowhere(), &[path, &["--help"]].concat());
        let names = help.lines().filter_map(|line| line.trim().split("--").nth(1)?.split(' ').next().map(str::to_owned));
        let takes = |name: &String| help.contains(&format!("--{name} <")) || help.contains(&format!("--{name}[="));
        // A name that is an address costs a look-up that may take long, and is refused or not found.
        let address = |name: &String| name.ends_with("-url") || ["gateway", "host"].contains(&name.as_str());
        names.filter(|name| takes(name) && !address(name)).collect::<Vec<_>>()
    };
    let (items, reason) = (["--user", USER, "--item", ITEM], ["--reason", "x", "--by", "x", "--yes"]);
    let commands: &[(&[&str], &[&str])] = &[
        (&["audit"], &[]),
        // It stops before it starts anything: this is no address to listen on.
        (&["up", "--host", "256.0.0.1"], &[]),
        (&["bench"], &[]),
        (&["health"], &[]),
        (&["user", "list"], &[]),
        (&["user", "update", USER], &["--active", "true"]),
        (&["product", "create"], &["--name", "x", "--price", "1"]),
        (&["product", "stock", USER], &["--delta", "1"]),
        (&["product", "release", USER], &reason),
        (&["order", "submit"], &items),
        (&["order", "list"], &[]),
        (&["order", "cancel", USER], &[]),
        (&["saga", "list"], &[]),
        (&["saga", "replay", "--all"], &[]),
        (&["saga", "replay", USER], &["--from", "/dev/null"]),
        (&["saga", "export", "--all"], &[]),
        (&["saga", "skip", USER], &reason),
        (&["events", "rebuild", "--dry-run"], &["--by", "x"]),
        (&["import"], &["--products", "/dev/null", "--baskets", "/dev/null", "--patience=0"]),
    ];
    let nowhere = nowhere();
    let mut lines = Vec::new();
    for (path, others) in commands {
        let flags = flags(path);
        assert!(!flags.is_empty(), "{path:?} has no flags: is its help read wrong?");
        lines.extend(flags.iter().map(|flag| {
            let typed = [path.iter().map(|word| (*word).to_owned()).collect(), vec![format!("--{flag}={}", u64::MAX)]].concat();
            [typed, others.iter().map(|word| (*word).to_owned()).collect()].concat()
        }));
    }
    assert!(lines.len() > 100, "only {} were tried", lines.len());
    let run = |line: &Vec<String>| {
        let mut command = waybill(&nowhere, &line.iter().map(String::as_str).collect::<Vec<_>>());
        command.env("WAYBILL_ORDER_URL", &nowhere).env("WAYBILL_PRODUCT_URL", &nowhere);
        let (code, stdout, stderr) = told(command.output().unwrap());
        assert!(matches!(code, Some(0..=2)) && !stderr.contains("panicked"), "{line:?}: {code:?} {stdout}{stderr}");
    };
    std::thread::scope(|scope| {
        for part in lines.chunks(lines.len().div_ceil(4)) {
            scope.spawn(|| part.iter().for_each(run));
        }
    });
}
