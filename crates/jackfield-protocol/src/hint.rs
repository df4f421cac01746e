//! The nearest name: what somebody who wrote a wrong one probably meant.

/// The candidate nearest to `name` by edit distance, or `None` when nothing is near.
///
/// Near means at most a third of the letters differ; a guess further away misleads.
///
/// ```
/// assert_eq!(jackfield_protocol::nearest("gret", ["greet", "shout"]), Some("greet"));
/// assert_eq!(jackfield_protocol::nearest("sing", ["greet", "shout"]), None);
/// ```
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance * 3 <= candidate.chars().count().max(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `; did you mean \`x\`?`, or nothing.
pub(crate) fn did_you_mean<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, candidates).map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}

/// Letters to insert, delete, replace or swap with the next one: case ignored, on the first 64
/// characters of each. A swap counts once, for it is the commonest slip (`rihgt`).
fn distance(a: &str, b: &str) -> usize {
    let lower = |text: &str| -> Vec<char> { text.chars().take(64).flat_map(char::to_lowercase).collect() };
    let (a, b) = (lower(a), lower(b));
    // The rows of the table for the first `i - 1`, `i` and `i + 1` letters of `a`.
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut next = vec![i + 1];
        for j in 0..b.len() {
            let replaced = row[j] + usize::from(a[i] != b[j]);
            let mut least = replaced.min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                least = least.min(before[j - 1] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_swapped_letters_are_one_slip() {
        assert_eq!(nearest("rihgt", ["left", "right"]), Some("right"));
        assert_eq!(nearest("gerte", ["greet"]), None);
        assert_eq!(nearest("", ["greet"]), None);
        for (a, b, between) in [("", "", 0), ("abc", "", 3), ("abc", "acb", 1), ("ca", "abc", 3), ("GREET", "greet", 0)]
        {
            assert_eq!(distance(a, b), between, "{a} {b}");
            assert_eq!(distance(b, a), between, "{b} {a}");
        }
    }
}
