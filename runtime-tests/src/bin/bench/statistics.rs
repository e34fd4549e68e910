//! What is said about a row of values.

/// The middle and the edges.
#[derive(Debug, Clone, Copy)]
pub struct Summary {
    pub count: usize,
    pub least: f64,
    pub median: f64,
    pub p95: f64,
}

impl Summary {
    /// Of these values; nothing of none.
    pub fn of(values: &[f64]) -> Option<Summary> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (&least, count) = (sorted.first()?, sorted.len());
        let middle = [sorted[(count - 1) / 2], sorted[count / 2]];
        // The nearest rank: a value that was measured.
        let rank = (count * 95).div_ceil(100).clamp(1, count);
        Some(Summary { count, least, median: (middle[0] + middle[1]) / 2.0, p95: sorted[rank - 1] })
    }
}
