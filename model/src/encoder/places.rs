//! Some frames of a batch, for a last layer that is computed at these alone.

use tch::{Device, Tensor};

/// Places of frames in the B · T rows of a batch. A layer needs keys and values of every frame, and all else where somebody reads it.
#[derive(Debug)]
pub struct Places {
    /// N places, a row's side by side and in order.
    places_n: Tensor,
    /// B × Q: as many for each row as the row with most has; where there are fewer, the row's first frame fills up.
    queries_bq: Tensor,
    /// N places in the B · Q queries.
    kept_n: Tensor,
    frames: i64,
}

impl Places {
    /// The places that are `true` in rows of up to `frames` frames; none where there are none.
    pub fn new(rows: &[Vec<bool>], frames: usize, device: Device) -> Option<Self> {
        let chosen = |row: &Vec<bool>| (0..row.len()).filter(|&t| row[t]).collect::<Vec<usize>>();
        let chosen: Vec<Vec<usize>> = rows.iter().map(chosen).collect();
        let most = chosen.iter().map(Vec::len).max().filter(|&most| most > 0)?;
        let (mut places, mut queries, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        for (row, chosen) in chosen.iter().enumerate() {
            let place = |t: usize| (row * frames + t) as i64;
            kept.extend((0..chosen.len()).map(|query| (row * most + query) as i64));
            places.extend(chosen.iter().map(|&t| place(t)));
            queries.extend(chosen.iter().chain(std::iter::repeat(&0)).take(most).map(|&t| place(t)));
        }
        let tensor = |places: &[i64]| Tensor::from_slice(places).to_device(device);
        let queries_bq = tensor(&queries).view([rows.len() as i64, most as i64]);
        Some(Self { places_n: tensor(&places), queries_bq, kept_n: tensor(&kept), frames: frames as i64 })
    }

    /// B × T × D to N × D.
    pub fn of(&self, x_btd: &Tensor) -> Tensor {
        x_btd.flatten(0, 1).index_select(0, &self.places_n)
    }

    /// N × D to B × T × D with zeros at all other frames.
    pub fn spread(&self, x_nd: &Tensor) -> Tensor {
        let (rows, width) = (self.queries_bq.size()[0], x_nd.size()[1]);
        let zeros = Tensor::zeros([rows * self.frames, width], (x_nd.kind(), x_nd.device()));
        zeros.index_copy(0, &self.places_n, x_nd).view([rows, self.frames, width])
    }

    /// B × T × D to B × Q × D.
    pub(super) fn queries(&self, x_btd: &Tensor) -> Tensor {
        let (rows, queries) = self.queries_bq.size2().expect("two dimensions were made");
        x_btd.flatten(0, 1).index_select(0, &self.queries_bq.flatten(0, 1)).view([rows, queries, -1])
    }

    /// Their N places in the B · Q queries.
    pub(super) fn of_queries(&self) -> &Tensor {
        &self.kept_n
    }

    /// B × Q × D to N × D.
    pub(super) fn kept(&self, x_bqd: &Tensor) -> Tensor {
        x_bqd.flatten(0, 1).index_select(0, &self.kept_n)
    }

    /// Of numbers that attention adds, B or 1 × H × T × T, those of the queries: B × H × Q × T.
    pub(super) fn added(&self, bias_bhtt: &Tensor) -> Tensor {
        let (rows, queries) = self.queries_bq.size2().expect("two dimensions were made");
        let (heads, frames) = (bias_bhtt.size()[1], self.frames);
        let index = self.queries_bq.remainder(frames).view([rows, 1, queries, 1]);
        let index = index.expand([rows, heads, queries, frames], false);
        bias_bhtt.expand([rows, heads, frames, frames], false).gather(2, &index, false)
    }
}
