//! A database that crashes, and one whose disk is full.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Instant;

use sqlx::PgConnection;
use testkit::{Service, System, eventually};

use super::broker::{Removed, folder};
use crate::run::Run;
use crate::scene::{SOON, Scene, patient};
use crate::tmpfs::Tmpfs;

pub async fn killed(run: Run) {
    let builder = patient().stack(|stack| stack.postgres.durable = true);
    let mut scene = Scene::begin(&run, builder).await;
    for _ in 0..run.times {
        let before = scene.system.stack.postgres.pid();
        let fault = Instant::now();
        scene.system.stack.postgres.kill().expect("killed");
        scene.felt(fault).await;
        run.fired();
        let since = Instant::now();
        scene.system.stack.postgres.restart().await.expect("a database");
        assert_ne!(scene.system.stack.postgres.pid(), before, "another process");
        scene.well(since).await;
    }
    scene.end().await;
}

/// Switches WAL files until there is no room for another, so that the server itself ends. On one connection: the pool would wait for a new
/// one, which nobody gives.
async fn exhaust_wal(mut connection: PgConnection) {
    for _ in 0..64 {
        let switched = sqlx::query("select pg_switch_wal() from pg_logical_emit_message(false, 'proof', 'x')");
        if switched.execute(&mut connection).await.is_err() {
            return;
        }
    }
}

/// How often the server has ended itself.
fn panics(system: &System) -> usize {
    let log = std::fs::read_to_string(system.stack.postgres.log().expect("started here")).expect("a log");
    log.matches("PANIC:").count()
}

pub async fn disk_full(run: Run) {
    let root = Removed(folder(run.row));
    let disk = match Tmpfs::mount(root.0.join("disk"), 600) {
        Ok(disk) => disk,
        Err(error) => return run.skip(format!("{error:#}")),
    };
    let data: PathBuf = root.0.join("data");
    std::fs::create_dir_all(&data).expect("a folder");
    open_to_all(&root.0);
    open_to_all(&data);
    // Only the cluster is on the small disk; the broker has room.
    let cluster = disk.path().join("cluster");
    std::fs::create_dir_all(&cluster).expect("a folder");
    open_to_all(&cluster);
    symlink(cluster.join("postgres"), data.join("postgres")).expect("a link");
    let builder = patient().stack(|stack| {
        stack.data = stack::Data::Persistent(data);
        stack.postgres.durable = true;
    });
    let mut scene = Scene::begin(&run, builder).await;
    for lap in 0..run.times {
        let wal = lap % 2 == 1;
        let (fault, panics) = (Instant::now(), panics(&scene.system));
        let connection = scene.system.superuser("waybill_order").acquire().await.expect("a connection").detach();
        disk.fill();
        if wal {
            exhaust_wal(connection).await;
        }
        scene.felt(fault).await;
        assert!(!wal || self::panics(&scene.system) > panics, "the server got by without room for its WAL");
        // A server that ends itself takes the file with it that it was writing.
        assert!(wal || disk.left() == 0, "{} bytes are left", disk.left());
        run.fired();
        let since = Instant::now();
        disk.clear();
        if scene.system.stack.postgres.pid().is_none() || wal {
            // Without room for WAL the server ends itself, and may not come up before there is room: what an operator does.
            eventually(SOON, || async { scene.system.stack.postgres.restart().await.map_err(|error| format!("{error:#}")) })
                .await;
        }
        eventually(SOON, || async {
            sqlx::query("select 1").execute(&scene.system.order_db).await.map_err(|error| error.to_string())
        })
        .await;
        scene.well(since).await;
    }
    let letters = scene.system.said("DEAD_LETTERS").await;
    assert!(letters.is_empty(), "a full disk made good messages dead letters: {letters:#?}");
    assert_eq!(scene.system.client(Service::Order).get("/livez").await.status, 200);
    scene.end().await;
    drop(disk);
}

/// The server's user may pass.
fn open_to_all(folder: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o711)).expect("our own folder");
}
