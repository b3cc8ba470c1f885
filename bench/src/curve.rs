//! Curves as pictures: SVG, the horizontal axis by powers of ten, the vertical one from zero, readable on light and on dark pages.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

/// What a run has to draw, by the names of their files.
#[derive(Default)]
pub(crate) struct Curves {
    curves: Vec<(&'static str, Curve)>,
}

impl Curves {
    /// Adds a line to the curve of a file; the first one says what the curve is.
    pub(crate) fn add(&mut self, file: &'static str, of: Curve) {
        match self.curves.iter_mut().find(|(known, _)| *known == file) {
            Some((_, curve)) => curve.lines.extend(of.lines),
            None => self.curves.push((file, of)),
        }
    }

    /// Writes each as `FILE.svg` into a folder.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder)?;
        for (name, curve) in &self.curves {
            let file = folder.join(format!("{name}.svg"));
            std::fs::write(&file, curve.svg())
                .with_context(|| format!("writing {}", file.display()))?;
        }
        Ok(())
    }
}

/// How something grows with something else.
pub(crate) struct Curve {
    /// The heading.
    pub(crate) name: &'static str,
    /// What the horizontal axis counts, by powers of ten.
    pub(crate) x: &'static str,
    /// What the vertical axis counts, from zero.
    pub(crate) y: &'static str,
    /// At most as many as there are colours.
    pub(crate) lines: Vec<Line>,
}

/// One of its lines.
pub(crate) struct Line {
    pub(crate) name: String,
    /// By ascending x.
    pub(crate) points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
/// What the axes and their words take on each side.
const LEFT: f64 = 72.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 48.0;
const BOTTOM: f64 = 56.0;
/// Told apart by those who do not see all colours (Okabe and Ito).
const COLOURS: [&str; 4] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"];
const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#333}.grid{stroke:#8884;fill:none}\
.axis{stroke:#888;fill:none}.title{font-weight:600;font-size:15px}\
@media(prefers-color-scheme:dark){text{fill:#ddd}}";

impl Curve {
    fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let least = points().map(|(x, _)| *x).fold(f64::INFINITY, f64::min);
        let most = points().map(|(x, _)| *x).fold(1.0, f64::max);
        let scale = Scale {
            decades: (least.max(1.0).log10(), most.max(1.0).log10()),
            top: round_up(points().map(|(_, y)| *y).fold(0.0, f64::max)),
        };
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{name}\">\
             <style>{STYLE}</style><text class=\"title\" x=\"{LEFT}\" y=\"20\">{name}</text>",
            name = self.name
        );
        self.draw_axes(&mut svg, &scale);
        for (index, line) in self.lines.iter().enumerate() {
            draw_line(&mut svg, &scale, line, index);
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn draw_axes(&self, svg: &mut String, scale: &Scale) {
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        for part in 0..=4 {
            let value = scale.top * f64::from(part) / 4.0;
            let y = scale.y(value);
            // Writing to a String cannot fail.
            let _ = write!(
                svg,
                "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/>\
                 <text text-anchor=\"end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                LEFT - 8.0,
                y + 4.0,
                short(value)
            );
        }
        let mut ticks: Vec<f64> = self
            .lines
            .iter()
            .flat_map(|line| line.points.iter().map(|(x, _)| *x))
            .collect();
        ticks.sort_by(f64::total_cmp);
        ticks.dedup();
        for value in ticks {
            let x = scale.x(value);
            let _ = write!(
                svg,
                "<path class=\"grid\" d=\"M{x:.1} {TOP}V{bottom}\"/>\
                 <text text-anchor=\"middle\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
                bottom + 18.0,
                short(value)
            );
        }
        let _ = write!(
            svg,
            "<path class=\"axis\" d=\"M{LEFT} {TOP}V{bottom}H{right}\"/>\
             <text text-anchor=\"middle\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\
             <text x=\"{LEFT}\" y=\"38\">{}</text>",
            f64::midpoint(LEFT, right),
            HEIGHT - 14.0,
            self.x,
            self.y
        );
    }
}

fn draw_line(svg: &mut String, scale: &Scale, line: &Line, index: usize) {
    let colour = COLOURS
        .get(index % COLOURS.len())
        .copied()
        .unwrap_or("#888");
    let places: Vec<(f64, f64)> = line
        .points
        .iter()
        .map(|(x, y)| (scale.x(*x), scale.y(*y)))
        .collect();
    let path: Vec<String> = places
        .iter()
        .map(|(x, y)| format!("{x:.1} {y:.1}"))
        .collect();
    let _ = write!(
        svg,
        "<path d=\"M{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
        path.join("L")
    );
    for (x, y) in places {
        let _ = write!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>"
        );
    }
    // The legend is beside what the vertical axis counts.
    let x = LEFT + 140.0 + 130.0 * index as f64;
    let _ = write!(
        svg,
        "<circle cx=\"{:.1}\" cy=\"34\" r=\"4\" fill=\"{colour}\"/><text x=\"{:.1}\" y=\"38\">{}</text>",
        x,
        x + 10.0,
        line.name
    );
}

/// From values to places.
struct Scale {
    /// The powers of ten at both ends.
    decades: (f64, f64),
    top: f64,
}

impl Scale {
    fn x(&self, value: f64) -> f64 {
        let (from, to) = self.decades;
        let part = (value.max(1.0).log10() - from) / (to - from).max(f64::EPSILON);
        LEFT + part.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        let part = value / self.top.max(f64::EPSILON);
        HEIGHT - BOTTOM - part.clamp(0.0, 1.0) * (HEIGHT - TOP - BOTTOM)
    }
}

/// The next of 1, 2, 4 and 8 times a power of ten, so that quarters of it are short.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 4.0, 8.0, 10.0]
        .into_iter()
        .map(|step| step * power)
        .find(|step| *step >= value)
        .unwrap_or(value)
}

/// A number in few letters: `250`, `1.5k`, `10M`.
fn short(value: f64) -> String {
    let (value, unit) = match value {
        value if value >= 1e6 => (value / 1e6, "M"),
        value if value >= 1e3 => (value / 1e3, "k"),
        value => (value, ""),
    };
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, expected) in [
            (0.0, "0"),
            (250.0, "250"),
            (1500.0, "1.5k"),
            (1e7, "10M"),
            (0.5, "0.5"),
        ] {
            assert_eq!(short(value), expected);
        }
        for (value, expected) in [(0.0, 1.0), (1.0, 1.0), (4321.0, 8000.0), (8001.0, 10_000.0)] {
            assert!((round_up(value) - expected).abs() < 1e-9, "{value}");
        }
    }

    #[test]
    fn points_are_where_they_belong() {
        let curve = Curve {
            name: "Cost",
            x: "accounts",
            y: "requests/s",
            lines: vec![Line {
                name: "SQLite".to_owned(),
                points: vec![(1e3, 0.0), (1e5, 400.0)],
            }],
        };
        let svg = curve.svg();
        // From the lower left corner to the upper right one.
        assert!(svg.contains("d=\"M72.0 304.0L616.0 48.0\""), "{svg}");
        for word in [
            "Cost",
            "accounts",
            "requests/s",
            "SQLite",
            ">100k<",
            ">400<",
        ] {
            assert!(svg.contains(word), "{word}");
        }
    }
}
