//! One scatter plot as SVG. Colours come from the style sheet of the page.

use std::fmt::Write;

use super::escape;
use super::labels::{Area, place};
use super::scale::{Kind, Scale};

/// A model in a plot.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Point {
    pub(super) name: String,
    /// Number of the colour; the same model has the same one in all plots.
    pub(super) colour: usize,
    pub(super) x: f64,
    pub(super) y: f64,
    /// Ends of the error bar.
    pub(super) low: f64,
    pub(super) high: f64,
}

/// A plot.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plot<'a> {
    pub(super) x_name: &'a str,
    pub(super) y_name: &'a str,
    pub(super) y_kind: Kind,
    /// The value of the reference: a line across.
    pub(super) baseline: Option<f64>,
    pub(super) points: Vec<Point>,
}

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 370.0;
/// Where points can be.
const FRAME: Area = Area { left: 62.0, top: 40.0, right: 544.0, bottom: 318.0 };
const BASELINE: &str = "reference";
/// Colours of the style sheet.
const N_COLOURS: usize = 8;

impl Plot<'_> {
    /// The `svg` element; `None` without a point to show.
    pub(super) fn svg(&self) -> Option<String> {
        let x_scale = Scale::over(Kind::Linear, self.points.iter().map(|point| point.x))?;
        let heights = self.points.iter().flat_map(|point| [point.y, point.low, point.high]);
        let y_scale = Scale::over(self.y_kind, heights.chain(self.baseline))?;
        let x = |value: f64| FRAME.left + (FRAME.right - FRAME.left) * x_scale.share(value);
        let y = |value: f64| FRAME.bottom - (FRAME.bottom - FRAME.top) * y_scale.share(value);

        let (x_name, y_name) = (escape(self.x_name), escape(self.y_name));
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{y_name} against {x_name}\">\n\
             <text class=\"title\" x=\"8\" y=\"20\">{y_name}</text>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{x_name}</text>\n",
            (FRAME.left + FRAME.right) / 2.0,
            HEIGHT - 8.0
        );
        for (value, name) in y_scale.ticks() {
            line(&mut svg, "grid", [FRAME.left, y(value), FRAME.right, y(value)]);
            text(&mut svg, FRAME.left - 8.0, y(value) + 4.0, "end", &name);
        }
        line(&mut svg, "grid", [FRAME.left, FRAME.bottom, FRAME.right, FRAME.bottom]);
        for (value, name) in x_scale.ticks() {
            line(&mut svg, "grid", [x(value), FRAME.bottom, x(value), FRAME.bottom + 5.0]);
            text(&mut svg, x(value), FRAME.bottom + 19.0, "middle", &name);
        }
        if let Some(baseline) = self.baseline {
            line(&mut svg, "baseline", [FRAME.left, y(baseline), FRAME.right, y(baseline)]);
            text(&mut svg, FRAME.left + 4.0, y(baseline) - 5.0, "start", BASELINE);
        }
        let taken = self.baseline.map(|baseline| Area::of_text(BASELINE, FRAME.left, y(baseline) - 9.0));
        self.draw_points(&mut svg, &x, &y, taken.as_slice());
        svg += "</svg>\n";
        Some(svg)
    }

    fn draw_points(&self, svg: &mut String, x: &dyn Fn(f64) -> f64, y: &dyn Fn(f64) -> f64, taken: &[Area]) {
        let places: Vec<(f64, f64, &str)> =
            self.points.iter().map(|point| (x(point.x), y(point.y), point.name.as_str())).collect();
        let areas = place(&places, FRAME, taken);
        for ((point, area), (x, at, _)) in self.points.iter().zip(areas).zip(&places) {
            let Point { name, colour, .. } = point;
            let (name, colour) = (escape(name), colour % N_COLOURS);
            let ends = [y(point.low), y(point.high)];
            let middle = (area.top + area.bottom) / 2.0;
            if (middle - at).abs() > 20.0 {
                line(svg, "leader", [*x, *at, x.clamp(area.left, area.right), middle]);
            }
            let (anchor, label_x) = match () {
                () if area.left > *x => ("start", area.left),
                () if area.right < *x => ("end", area.right),
                () => ("middle", (area.left + area.right) / 2.0),
            };
            let _ = write!(
                svg,
                "<line class=\"bar\" stroke=\"var(--c{colour})\" x1=\"{x:.1}\" y1=\"{:.1}\" x2=\"{x:.1}\" y2=\"{:.1}\"/>\n\
                 <circle class=\"dot\" fill=\"var(--c{colour})\" cx=\"{x:.1}\" cy=\"{at:.1}\" r=\"5.5\">\
                 <title>{name}: {:.3}, {:.5}</title></circle>\n\
                 <text class=\"label\" style=\"fill:var(--c{colour})\" x=\"{label_x:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{name}</text>\n",
                ends[0],
                ends[1],
                point.x,
                point.y,
                middle + 4.0,
            );
        }
    }
}

fn line(svg: &mut String, class: &str, [x1, y1, x2, y2]: [f64; 4]) {
    let _ = writeln!(
        svg,
        "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
    );
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let text = escape(text);
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(name: &str, x: f64, y: f64) -> Point {
        Point { name: name.to_owned(), colour: 9, x, y, low: 0.9 * y, high: 1.1 * y }
    }

    #[test]
    fn points_and_names_are_there_and_escaped() {
        let points = vec![point("a<b>", 4.0, 0.1), point("c", 5.0, 0.2)];
        let plot = Plot { x_name: "x", y_name: "y & z", y_kind: Kind::Log, baseline: Some(0.15), points };
        let svg = plot.svg().unwrap();
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(svg.contains("a&lt;b&gt;</text>") && svg.contains("y &amp; z") && !svg.contains("a<b>"));
        assert!(svg.contains("class=\"baseline\"") && svg.contains("var(--c1)") && !svg.contains("NaN"));
    }

    #[test]
    fn without_points_there_is_no_plot() {
        let plot =
            Plot { x_name: "", y_name: "", y_kind: Kind::Linear, baseline: Some(1.0), points: Vec::new() };
        assert_eq!(plot.svg(), None);
    }
}
