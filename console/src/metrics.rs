//! What a service says at `/metrics`, as far as it is shown here (the text format of Prometheus).

use std::collections::BTreeMap;

/// The values of one name, each with its labels.
pub fn series<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = (Labels<'a>, f64)> {
    text.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.rsplit_once('}')?,
            None => ("", rest.strip_prefix(' ')?),
        };
        Some((Labels(labels), value.trim().parse().ok()?))
    })
}

/// The labels of a value.
#[derive(Clone, Copy, Debug)]
pub struct Labels<'a>(&'a str);

impl<'a> Labels<'a> {
    /// A label; ours hold no quotes and no commas.
    pub fn get(self, name: &str) -> Option<&'a str> {
        let pairs = self.0.split(',').filter_map(|pair| pair.split_once('='));
        pairs.into_iter().find(|(known, _)| *known == name).map(|(_, value)| value.trim_matches('"'))
    }
}

/// How many took at most so long: the buckets of a histogram, over all labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Buckets(Vec<(f64, f64)>);

impl Buckets {
    /// The buckets of this histogram.
    pub fn read(text: &str, name: &str) -> Self {
        let mut counts = BTreeMap::<u64, f64>::new();
        for (labels, count) in series(text, &format!("{name}_bucket")) {
            let most = labels.get("le").and_then(|most| if most == "+Inf" { Some(f64::INFINITY) } else { most.parse().ok() });
            // Bits of numbers that are not negative are in their order.
            *counts.entry(most.unwrap_or(f64::INFINITY).to_bits()).or_default() += count;
        }
        Self(counts.into_iter().map(|(most, count)| (f64::from_bits(most), count)).collect())
    }

    /// Adds those of another instance.
    pub fn add(&mut self, other: &Self) {
        if self.0.is_empty() {
            *self = other.clone();
        } else {
            self.0.iter_mut().zip(&other.0).for_each(|(own, other)| own.1 += other.1);
        }
    }

    /// What came since these; all, where an instance was begun anew meanwhile.
    pub fn since(&self, before: &Self) -> Self {
        let grown = self.0.iter().zip(&before.0).map(|(now, then)| (now.0, now.1 - then.1));
        let grown: Vec<(f64, f64)> = grown.collect();
        if grown.len() == self.0.len() && grown.iter().all(|(_, count)| *count >= 0.0) { Self(grown) } else { self.clone() }
    }

    /// The seconds that this share took at most; even within a bucket. `None`: nothing was measured.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let all = self.0.last()?.1;
        if all <= 0.0 {
            return None;
        }
        let rank = all * share;
        let (mut below, mut least) = (0.0, 0.0);
        for &(most, count) in &self.0 {
            if count >= rank {
                return Some(if most.is_infinite() {
                    least
                } else {
                    least + (most - least) * (rank - below) / (count - below).max(f64::EPSILON)
                });
            }
            (below, least) = (count, most);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# TYPE waybill_orders_ended_total counter
waybill_orders_ended_total{status=\"confirmed\"} 7
waybill_orders_ended_total{status=\"rejected\"} 2
waybill_sagas_in_flight 3
waybill_saga_seconds_bucket{saga=\"order\",status=\"confirmed\",le=\"0.1\"} 50
waybill_saga_seconds_bucket{saga=\"order\",status=\"confirmed\",le=\"1\"} 90
waybill_saga_seconds_bucket{saga=\"order\",status=\"confirmed\",le=\"+Inf\"} 100
waybill_saga_seconds_bucket{saga=\"order\",status=\"rejected\",le=\"0.1\"} 0
waybill_saga_seconds_bucket{saga=\"order\",status=\"rejected\",le=\"1\"} 0
waybill_saga_seconds_bucket{saga=\"order\",status=\"rejected\",le=\"+Inf\"} 0
";

    #[test]
    fn values_are_read_with_their_labels() {
        let ended: Vec<(Option<&str>, f64)> =
            series(TEXT, "waybill_orders_ended_total").map(|(labels, value)| (labels.get("status"), value)).collect();
        assert_eq!(ended, [(Some("confirmed"), 7.0), (Some("rejected"), 2.0)]);
        assert_eq!(series(TEXT, "waybill_sagas_in_flight").map(|(_, value)| value).collect::<Vec<_>>(), [3.0]);
        assert_eq!(series(TEXT, "waybill_sagas").count(), 0, "a name is a whole one");
    }

    #[test]
    fn a_quantile_lies_within_its_bucket() {
        let all = Buckets::read(TEXT, "waybill_saga_seconds");
        assert_eq!(all.quantile(0.5), Some(0.1));
        assert!((0.54..0.56).contains(&all.quantile(0.7).unwrap()));
        assert_eq!(all.quantile(0.99), Some(1.0), "beyond the last bound nothing is known");
        assert_eq!(all.since(&all).quantile(0.5), None);
        assert_eq!(Buckets::default().quantile(0.5), None);
        let mut two = all.clone();
        two.add(&all);
        assert_eq!(two.since(&all), all);
        assert_eq!(all.since(&two), all, "it was begun anew");
    }
}
