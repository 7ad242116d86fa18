//! Lines that swallow, delay, or cut.

use std::time::{Duration, Instant};

use testkit::{Lane, Line, Proxy, Service};

use crate::run::Run;
use crate::scene::{Scene, patient};

const SERVICES: [Service; 3] = [Service::User, Service::Product, Service::Order];

/// Within this a service says that its line is dead.
const DETECTED_WITHIN: Duration = Duration::from_secs(15);

fn line(scene: &Scene, service: Service, database: bool) -> &Proxy {
    let links = scene.system.links(service);
    if database { &links.database } else { &links.broker }
}

pub async fn black_hole(run: Run) {
    let mut scene = Scene::begin(&run, patient().linked()).await;
    for lap in 0..run.times {
        let (service, database) = (SERVICES[lap / 2 % 3], lap % 2 == 0);
        let fault = Instant::now();
        line(&scene, service, database).set(Line::BLACK_HOLE);
        scene.noticed(service, fault).await;
        let detected = fault.elapsed();
        assert!(detected <= DETECTED_WITHIN, "the {} service noticed only after {detected:?}", service.name());
        if service != Service::Order || !database {
            scene.trickle.more(4).await;
        }
        run.fired();
        let since = Instant::now();
        line(&scene, service, database).heal();
        scene.well(since).await;
        scene.system.instance(service).ready().await;
    }
    scene.end().await;
}

pub async fn bad_lines(run: Run) {
    const LATE: Lane = Lane::late(Duration::from_secs(1), Duration::from_secs(1));
    let mut rng = run.rng();
    let mut scene = Scene::begin(&run, patient().linked()).await;
    for lap in 0..run.times {
        let (service, database) = (SERVICES[rng.usize(..3)], rng.bool());
        let line = line(&scene, service, database);
        let (bytes, cuts) = (line.bytes_up() + line.bytes_down(), line.cuts());
        let orders = scene.trickle.taken();
        match lap % 4 {
            0 => line.set(Line { up: Lane::default(), down: Lane::HOLD }),
            1 => line.set(Line { up: Lane::HOLD, down: Lane::default() }),
            2 => line.set(Line { up: LATE, down: LATE }),
            _ => line.cut_at_next_reply(),
        }
        if lap % 4 == 3 {
            testkit::eventually(crate::scene::SOON, || async { if line.cuts() > cuts { Ok(()) } else { Err("not cut") } }).await;
        } else {
            tokio::time::sleep(Duration::from_millis(rng.u64(1_000..4_000))).await;
        }
        let (now, taken) = (line.bytes_up() + line.bytes_down(), scene.trickle.taken());
        assert!(now > bytes, "nothing was said on the line: it harmed nobody");
        tracing::debug!(orders, taken, "while the line was bad");
        run.fired();
        let since = Instant::now();
        line.heal();
        scene.well(since).await;
    }
    scene.end().await;
}
