//! Lines over a common axis, with bands of seeds and their names at their ends.

use svg::Document;

use super::{at, document, fitting, group, label, marker, path, stroke, width};
use crate::report::parts::{Dot, Drawing, Figure, Line, Style};

/// The size of a figure and the edges of its plot, in its own units: near a pixel each on a desk, three quarters of one on a phone.
const SIZE: [f64; 2] = [480.0, 286.0];
const LEFT: f64 = 50.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 240.0;

/// The size of labels.
const FONT: f64 = 12.5;

/// Room that names beside lines may take, and their distance.
const NAMES: f64 = 132.0;
const APART: f64 = 15.0;

/// Lines with at most so many dots have a marker at each.
const MARKED: usize = 16;

/// What the numbers of an axis are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Plain,
    /// Shares, shown in percent.
    Percent,
}

impl Unit {
    /// A number of an axis whose ticks lie so far apart.
    fn tick(self, value: f64, step: f64) -> String {
        let (value, step) = match self {
            Unit::Plain => (value, step),
            Unit::Percent => (100.0 * value, 100.0 * step),
        };
        let whole =
            |decimals: &i32| ((step * 10f64.powi(*decimals)).round() - step * 10f64.powi(*decimals)).abs() < 1e-6;
        let decimals = (0..6).find(whole).unwrap_or(6) as usize;
        let text = match value.abs() {
            1e6.. => format!("{}M", short(value / 1e6)),
            1e4.. => format!("{}k", short(value / 1e3)),
            _ => format!("{value:.decimals$}"),
        };
        match self {
            Unit::Plain => text,
            Unit::Percent => text + " %",
        }
    }
}

fn short(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// Draws `lines` over `axes` (across, up). `None` where there is no finite dot.
pub fn figure(
    id: &str,
    title: &str,
    description: String,
    axes: [&str; 2],
    unit: Unit,
    mut lines: Vec<Line>,
) -> Option<Figure> {
    for line in &mut lines {
        line.dots.retain(|dot| dot.x.is_finite() && dot.y.is_finite());
        line.dots
            .iter_mut()
            .for_each(|dot| dot.band = dot.band.filter(|(low, high)| low.is_finite() && high.is_finite()));
    }
    lines.retain(|line| !line.dots.is_empty());
    let plot = Plot::of(&lines, unit)?;
    let drawing = Drawing(plot.drawn(id, title, &description, axes, &lines).to_string());
    let axes = axes.map(str::to_owned);
    Some(Figure { id: id.into(), title: title.into(), description, note: None, lines, axes, drawing })
}

/// The ends of an axis on round numbers, and how far apart its ticks are.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Axis {
    low: f64,
    high: f64,
    step: f64,
}

impl Axis {
    /// An axis for these values with about so many ticks; from zero where the values come near it anyway.
    fn of(values: impl Iterator<Item = f64> + Clone, ticks: f64) -> Option<Self> {
        let low = values.clone().fold(f64::INFINITY, f64::min);
        let high = values.fold(f64::NEG_INFINITY, f64::max);
        if !(low.is_finite() && high.is_finite()) {
            return None;
        }
        let low = if low >= 0.0 && low < 0.4 * high { 0.0 } else { low };
        let range = match high - low {
            range if range > 1e-12 * high.abs().max(1e-300) => range,
            _ => high.abs().max(1.0) * 0.2,
        };
        let rough = range / ticks;
        let power = 10f64.powf(rough.log10().floor());
        let step = power * [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|m| m * power >= rough * 0.999).unwrap_or(10.0);
        let (low, high) = ((low / step + 1e-9).floor() * step, (high / step - 1e-9).ceil() * step);
        Some(Self { low, high: if high > low { high } else { low + step }, step })
    }

    fn ticks(self) -> impl Iterator<Item = f64> {
        let count = ((self.high - self.low) / self.step).round().clamp(0.0, 50.0) as usize;
        (0..=count).map(move |index| self.low + index as f64 * self.step)
    }

    fn share(self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }
}

struct Plot {
    x: Axis,
    y: Axis,
    unit: Unit,
    right: f64,
}

impl Plot {
    fn of(lines: &[Line], unit: Unit) -> Option<Self> {
        let dots = lines.iter().flat_map(|line| &line.dots);
        let ends = dots.clone().flat_map(|dot| {
            let (low, high) = dot.band.unwrap_or((dot.y, dot.y));
            [dot.y, low, high]
        });
        let names = lines.iter().map(|line| width(&line.name, FONT)).fold(0.0, f64::max).min(NAMES);
        let right = if lines.len() > 1 { SIZE[0] - names - 16.0 } else { SIZE[0] - 12.0 };
        Some(Self { x: Axis::of(dots.map(|dot| dot.x), 4.0)?, y: Axis::of(ends, 4.0)?, unit, right })
    }

    fn place(&self, x: f64, y: f64) -> [f64; 2] {
        [LEFT + self.x.share(x) * (self.right - LEFT), BOTTOM - self.y.share(y) * (BOTTOM - TOP)]
    }

    fn drawn(&self, id: &str, title: &str, description: &str, axes: [&str; 2], lines: &[Line]) -> Document {
        let mut grid = group("grid");
        for tick in self.y.ticks() {
            let [_, y] = self.place(self.x.low, tick);
            grid = grid.add(stroke("rule", [LEFT, y], [self.right, y]));
            grid = grid.add(label("tick up", [LEFT - 7.0, y + 4.0], &self.unit.tick(tick, self.y.step)));
        }
        for tick in self.x.ticks() {
            let [x, _] = self.place(tick, self.y.low);
            grid = grid.add(stroke("notch", [x, BOTTOM], [x, BOTTOM + 4.0]));
            grid = grid.add(label("tick across", [x, BOTTOM + 18.0], &Unit::Plain.tick(tick, self.x.step)));
        }
        grid = grid.add(stroke("axis", [LEFT, BOTTOM], [self.right, BOTTOM]));
        grid = grid.add(label("name", [2.0, 15.0], &fitting(axes[1], FONT, SIZE[0] - 10.0)));
        let middle = (LEFT + self.right) / 2.0;
        grid = grid.add(label("name across", [middle, BOTTOM + 37.0], &fitting(axes[0], FONT, self.right)));
        let mut drawn = document(id, title, description, SIZE).add(grid);
        for line in lines.iter().filter(|line| line.dots.iter().any(|dot| dot.band.is_some())) {
            drawn = drawn.add(path(&format!("band {}", class(line.style)), self.band(&line.dots)));
        }
        for line in lines {
            let class = class(line.style);
            drawn = drawn.add(path(&format!("line {class}"), self.line(&line.dots)));
            if line.dots.len() <= MARKED && matches!(line.style, Style::Group(_)) {
                let shape = if let Style::Group(place) = line.style { place } else { 0 };
                for dot in &line.dots {
                    let kind = if dot.hollow { "hollow" } else { "dot" };
                    drawn = drawn.add(marker(&format!("{kind} {class}"), shape, self.place(dot.x, dot.y)));
                }
            }
        }
        self.names(lines).into_iter().fold(drawn, |drawn, (line, end, y)| {
            let x = self.right + 12.0;
            let drawn = drawn.add(path(
                &format!("leader {}", class(line.style)),
                format!("M{} {}L{} {}", at(end[0] + 4.0), at(end[1]), at(x - 2.0), at(y)),
            ));
            drawn.add(label("end", [x, y + 4.0], &fitting(&line.name, FONT, SIZE[0] - x)))
        })
    }

    fn line(&self, dots: &[Dot]) -> String {
        let mut data = String::new();
        for (index, dot) in dots.iter().enumerate() {
            let [x, y] = self.place(dot.x, dot.y);
            data.push(if index == 0 || dot.starts { 'M' } else { 'L' });
            data.push_str(&format!("{} {}", at(x), at(y)));
        }
        data
    }

    /// Closed areas between the ends of bands, one for each piece of the line.
    fn band(&self, dots: &[Dot]) -> String {
        let pieces = dots.chunk_by(|_, next| !next.starts);
        let area = |piece: &[Dot]| {
            let high = piece.iter().filter_map(|dot| Some(self.place(dot.x, dot.band?.1)));
            let low = piece.iter().rev().filter_map(|dot| Some(self.place(dot.x, dot.band?.0)));
            let corners: Vec<String> = high.chain(low).map(|[x, y]| format!("{} {}", at(x), at(y))).collect();
            if corners.is_empty() { String::new() } else { format!("M{}Z", corners.join("L")) }
        };
        pieces.map(area).collect()
    }

    /// Where the names of lines stand: beside their ends, moved apart where they would touch; as many as there is room for. A line alone needs none.
    fn names<'a>(&self, lines: &'a [Line]) -> Vec<(&'a Line, [f64; 2], f64)> {
        if lines.len() < 2 {
            return Vec::new();
        }
        let end = |line: &'a Line| line.dots.last().map(|dot| (line, self.place(dot.x, dot.y)));
        let mut ends: Vec<(&Line, [f64; 2])> = lines.iter().filter_map(end).collect();
        ends.truncate(((BOTTOM - TOP) / APART) as usize + 1);
        ends.sort_by(|(_, a), (_, b)| a[1].total_cmp(&b[1]));
        let mut placed: Vec<f64> = Vec::new();
        for (_, [_, y]) in &ends {
            placed.push(placed.last().map_or(*y, |above| y.max(above + APART)));
        }
        let mut below = BOTTOM + APART;
        for y in placed.iter_mut().rev() {
            *y = y.min(below - APART);
            below = *y;
        }
        ends.into_iter().zip(placed).map(|((line, end), y)| (line, end, y)).collect()
    }
}

/// The class of a style: eight colours, then the same with dashes.
fn class(style: Style) -> String {
    match style {
        Style::Level(place) => format!("s{} level", place % 8),
        Style::Group(place) => match place / 8 {
            0 => format!("s{place}"),
            dashes => format!("s{} d{}", place % 8, dashes.min(3)),
        },
        Style::Null => "null".into(),
        Style::Control => "control".into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(name: &str, place: usize, dots: &[(f64, f64)]) -> Line {
        let dots = dots.iter().map(|&(x, y)| Dot { x, y, ..Dot::default() }).collect();
        Line { name: name.into(), style: Style::Group(place), dots }
    }

    #[test]
    fn axes_end_on_round_numbers_and_start_at_zero_only_near_it() {
        let axis = |values: &[f64]| Axis::of(values.iter().copied(), 4.0).map(|axis| (axis.low, axis.high, axis.step));
        assert_eq!(axis(&[0.0, 700.0]), Some((0.0, 800.0, 200.0)));
        assert_eq!(axis(&[2.0, 10.0]), Some((0.0, 10.0, 2.5)));
        assert_eq!(axis(&[97.0, 99.0]), Some((97.0, 99.0, 0.5)));
        assert_eq!(axis(&[]), None);
        assert!(axis(&[5.0]).is_some_and(|(low, high, _)| low <= 5.0 && high > low));
    }

    #[test]
    fn numbers_that_are_none_are_not_drawn() {
        assert!(
            figure("x", "t", String::new(), ["a", "b"], Unit::Plain, vec![line("n", 0, &[(1.0, f64::NAN)])]).is_none()
        );
        let mixed = line("n", 0, &[(0.0, 1.0), (1.0, f64::INFINITY), (2.0, 2.0)]);
        let drawn = figure("x", "t", String::new(), ["a", "b"], Unit::Plain, vec![mixed]).unwrap();
        assert_eq!(drawn.lines[0].dots.len(), 2);
        assert!(!drawn.drawing.0.contains("NaN") && !drawn.drawing.0.contains("inf"));
    }

    proptest! {
        #[test]
        fn every_value_lies_within_its_axis(values in prop::collection::vec(-1e9f64..1e9, 1..30)) {
            let axis = Axis::of(values.iter().copied(), 4.0).unwrap();
            for value in values {
                prop_assert!((-1e-6..=1.0 + 1e-6).contains(&axis.share(value)), "{value} in {axis:?}");
            }
        }

        #[test]
        fn names_never_touch(ends in prop::collection::vec(0.0f64..1.0, 2..15)) {
            let lines: Vec<Line> = ends.iter().enumerate().map(|(i, y)| line("n", i, &[(0.0, 0.0), (1.0, *y)])).collect();
            let plot = Plot::of(&lines, Unit::Plain).unwrap();
            let places: Vec<f64> = plot.names(&lines).into_iter().map(|(_, _, y)| y).collect();
            prop_assert!(places.windows(2).all(|pair| pair[1] - pair[0] >= APART - 1e-9), "{places:?}");
        }
    }
}
