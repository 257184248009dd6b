//! Where the names of points go, so that none lies on another or on a point.

/// A rectangle in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Area {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
}

/// Pixels of a character of average width, and of a line.
const CHARACTER: f64 = 7.2;
const LINE: f64 = 15.0;

/// Pixels from the middle of a point to what it hides.
const RADIUS: f64 = 7.0;

impl Area {
    /// A text of one line that begins at `left`.
    pub(super) fn of_text(text: &str, left: f64, middle: f64) -> Area {
        let right = left + CHARACTER * text.chars().count() as f64;
        Area { left, top: middle - LINE / 2.0, right, bottom: middle + LINE / 2.0 }
    }

    fn around(x: f64, y: f64) -> Area {
        Area { left: x - RADIUS, top: y - RADIUS, right: x + RADIUS, bottom: y + RADIUS }
    }

    /// Pixels in common.
    fn overlap(&self, other: &Area) -> f64 {
        let width = self.right.min(other.right) - self.left.max(other.left);
        let height = self.bottom.min(other.bottom) - self.top.max(other.top);
        width.max(0.0) * height.max(0.0)
    }

    fn size(&self) -> f64 {
        (self.right - self.left) * (self.bottom - self.top)
    }
}

/// Places the names of `points` (x, y, name) inside `frame` and clear of what is `taken`: beside its point, else above or
/// below, else farther away; where there is no room at all, where it hides least.
pub(super) fn place(points: &[(f64, f64, &str)], frame: Area, taken: &[Area]) -> Vec<Area> {
    let dots = points.iter().map(|(x, y, _)| Area::around(*x, *y));
    let obstacles: Vec<Area> = dots.chain(taken.iter().copied()).collect();
    let mut placed: Vec<Area> = Vec::new();
    for (x, y, name) in points {
        let hidden = |area: &Area| {
            let others: f64 = obstacles.iter().chain(&placed).map(|other| area.overlap(other)).sum();
            others + (area.size() - area.overlap(&frame))
        };
        let best = candidates(*x, *y, name).into_iter().min_by(|a, b| hidden(a).total_cmp(&hidden(b)));
        placed.extend(best);
    }
    placed
}

/// Places for a name, the best first.
fn candidates(x: f64, y: f64, name: &str) -> Vec<Area> {
    let width = CHARACTER * name.chars().count() as f64;
    let mut areas = Vec::new();
    for distance in [0.0, 1.0, 2.0, 3.0] {
        let sides = [(x + RADIUS + 2.0, 0.0), (x - RADIUS - 2.0 - width, 0.0), (x - width / 2.0, 1.0)];
        for (left, beyond) in sides {
            for direction in [-1.0, 1.0] {
                areas.push(Area::of_text(name, left, y + direction * (distance + beyond) * LINE));
            }
        }
    }
    areas
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_clear_of_each_other_and_of_points() {
        let frame = Area { left: 0.0, top: 0.0, right: 400.0, bottom: 300.0 };
        let points: Vec<(f64, f64, &str)> =
            [(200.0, 150.0), (205.0, 152.0), (210.0, 148.0), (390.0, 150.0), (5.0, 5.0)]
                .map(|(x, y)| (x, y, "a name"))
                .to_vec();
        let taken = Area::of_text("taken", 20.0, 5.0);
        let areas = place(&points, frame, &[taken]);
        for (i, a) in areas.iter().enumerate() {
            assert!(a.overlap(&frame) > a.size() - 1e-9 && a.overlap(&taken) == 0.0, "{a:?}");
            assert!(areas[..i].iter().all(|b| a.overlap(b) == 0.0), "{i}: {areas:?}");
            assert!(points.iter().all(|(x, y, _)| a.overlap(&Area::around(*x, *y)) == 0.0), "{i}");
        }
    }
}
