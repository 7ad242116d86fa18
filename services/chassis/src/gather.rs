//! What comes one by one and costs less done together is gathered first.

use std::time::Duration;

use tokio::sync::mpsc;

/// How long whoever came first waits for others. Nobody waits for what is done with them.
const AT_MOST: Duration = Duration::from_secs(1);

/// Gathers the next that comes and those that come within a second of it, until there are so many or none will come any more. Nothing is gathered
/// only at the end of the queue. It can be called off and goes on with what it has.
pub async fn gather<T>(queue: &mut mpsc::Receiver<T>, gathered: &mut Vec<T>, at_once: usize) {
    if gathered.is_empty() {
        gathered.extend(queue.recv().await);
    }
    let others = async {
        while gathered.len() < at_once
            && let Some(next) = queue.recv().await
        {
            gathered.push(next);
        }
    };
    let _ = tokio::time::timeout(AT_MOST, others).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_comes_within_a_second_is_gathered_until_it_is_enough_or_nothing_will_come() {
        let (sender, mut queue) = mpsc::channel(16);
        let mut gathered = Vec::new();
        let send = |numbers: std::ops::Range<u32>| numbers.for_each(|number| sender.try_send(number).expect("there is room"));

        send(0..5);
        gather(&mut queue, &mut gathered, 3).await;
        assert_eq!(gathered, [0, 1, 2], "it is enough");
        gathered.clear();
        let begun = tokio::time::Instant::now();
        gather(&mut queue, &mut gathered, 3).await;
        assert_eq!(gathered, [3, 4], "no others came");
        assert!(begun.elapsed() >= AT_MOST);
        gathered.clear();

        send(5..6);
        let called_off = tokio::time::timeout(AT_MOST / 2, gather(&mut queue, &mut gathered, 3));
        assert!(called_off.await.is_err());
        drop(sender);
        gather(&mut queue, &mut gathered, 3).await;
        assert_eq!(gathered, [5], "what it had before it was called off");
        gathered.clear();
        gather(&mut queue, &mut gathered, 3).await;
        assert!(gathered.is_empty(), "the end");
    }
}
