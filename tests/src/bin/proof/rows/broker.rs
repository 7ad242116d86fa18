//! A broker that dies, hangs, forgets, remembers only the past, or has no room.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use events::streams::{CONSUMERS, STREAMS};
use testkit::Service;

use crate::run::Run;
use crate::scene::{Scene, born, patient, reborn};
use crate::tmpfs::Tmpfs;

/// How long the broker hangs at least at most laps, and at the last.
const HANGS: [Duration; 2] = [Duration::from_secs(6), Duration::from_secs(60)];

pub async fn killed_or_stopped(run: Run) {
    let mut scene = Scene::begin(&run, patient()).await;
    for lap in 0..run.times {
        let fault = Instant::now();
        let killed = lap % 2 == 0;
        if killed {
            scene.system.stack.nats.kill().expect("killed");
        } else {
            scene.system.stack.nats.pause().expect("paused");
        }
        let waiting = scene.place().await;
        scene.noticed(Service::Order, fault).await;
        scene.trickle.more(4).await;
        if !killed {
            let hang = HANGS[usize::from(lap + 2 >= run.times && run.times >= 20)];
            tokio::time::sleep(hang.saturating_sub(fault.elapsed())).await;
        }
        assert_eq!(scene.system.order(waiting).await["status"], "pending", "nobody can have answered");
        run.fired();
        let since = Instant::now();
        if killed {
            scene.system.stack.nats.restart().await.expect("a broker");
        } else {
            scene.system.stack.nats.resume().expect("resumed");
        }
        scene.well(since).await;
    }
    scene.end().await;
}

/// Copies a folder in place of another. Nobody may write to it meanwhile.
pub fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp");
    assert!(copied.success(), "{} cannot be copied", from.display());
}

pub async fn wiped_or_restored(run: Run) {
    let mut scene = Scene::begin(&run, patient()).await;
    let (store, old) = (scene.system.stack.folder().join("nats"), scene.system.stack.folder().join("nats.old"));
    scene.system.stack.nats.kill().expect("killed");
    copy(&store, &old);
    scene.system.stack.nats.restart().await.expect("a broker");
    scene.trickle.more(10).await;
    for lap in 0..run.times {
        // Orders are caught on their way: one of the two who are asked is not there to answer.
        let away = [Service::Product, Service::User][lap / 2 % 2];
        scene.system.stop(away).await;
        scene.trickle.more(4).await;
        let before = born(&scene.system, "PRODUCT_COMMANDS", None).await.expect("it is there");
        let fault = Instant::now();
        if lap % 2 == 0 {
            scene.system.stack.nats.wipe().await.expect("an empty broker");
            run.detected(fault.elapsed());
            reborn(&scene.system, "PRODUCT_COMMANDS", None, before).await;
        } else {
            scene.system.stack.nats.kill().expect("killed");
            copy(&old, &store);
            scene.system.stack.nats.restart().await.expect("a broker");
            run.detected(fault.elapsed());
        }
        run.fired();
        let since = Instant::now();
        scene.system.start(away).await;
        scene.well(since).await;
    }
    scene.end().await;
}

pub async fn stream_or_consumer_deleted(run: Run) {
    let mut scene = Scene::begin(&run, patient()).await;
    for lap in 0..run.times {
        let (stream, consumer) = match lap % 2 {
            0 => (STREAMS[lap / 2 % STREAMS.len()].name, None),
            _ => (CONSUMERS[lap / 2 % CONSUMERS.len()].stream, Some(CONSUMERS[lap / 2 % CONSUMERS.len()].name)),
        };
        let before = born(&scene.system, stream, consumer).await.expect("it is there");
        let fault = Instant::now();
        match consumer {
            None => drop(scene.system.jetstream().delete_stream(stream).await.expect("deleted")),
            Some(consumer) => {
                let stream = scene.system.jetstream().get_stream(stream).await.expect("the stream");
                stream.delete_consumer(consumer).await.expect("deleted");
            }
        }
        reborn(&scene.system, stream, consumer, before).await;
        run.detected(fault.elapsed());
        run.fired();
        scene.well(fault).await;
    }
    scene.end().await;
}

/// A folder for a stack that outlives none of it, which the server's user can enter.
pub fn folder(row: u8) -> PathBuf {
    PathBuf::from(format!("/var/tmp/waybill-proof-{}-{row}", std::process::id()))
}

/// Removes a folder at the end.
pub struct Removed(pub PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub async fn disk_full(run: Run) {
    let root = Removed(folder(run.row));
    let disk = match Tmpfs::mount(root.0.join("nats"), 96) {
        Ok(disk) => disk,
        Err(error) => return run.skip(format!("{error:#}")),
    };
    let data = root.0.clone();
    let builder = patient().stack(|stack| stack.data = stack::Data::Persistent(data));
    let mut scene = Scene::begin(&run, builder).await;
    for _ in 0..run.times {
        scene.all_said(Service::Order).await;
        let fault = Instant::now();
        disk.fill();
        // The broker answers nothing, or that it cannot store: either way, nothing is said any more.
        scene.unsaid(Service::Order).await;
        run.detected(fault.elapsed());
        assert_eq!(disk.left(), 0, "the disk is full");
        scene.trickle.more(4).await;
        run.fired();
        let since = Instant::now();
        disk.clear();
        // nats-server keeps a stream frozen after its disk was full until it is restarted: what an operator does.
        scene.system.stack.nats.restart().await.expect("a broker");
        scene.well(since).await;
    }
    scene.end().await;
    drop(disk);
}
