//! Sums of the frames of each cluster, exact enough for running means and the same at every repetition.

use tch::{Device, Kind, Tensor};

/// Frames summed at once.
const BLOCK: i64 = 16_384;

/// What the frames of each cluster add up to.
pub struct Sums {
    /// K × D, `f64`.
    pub frames_kd: Tensor,
    /// K, `f64`: how many frames each cluster has.
    pub count_k: Tensor,
}

/// Sums the frames (N × D) by their nearest centroid (N, `i64`) of `clusters`.
///
/// On the CPU one frame is added after the other in `f64`; elsewhere the sum is a matrix product, since parallel additions into one place
/// come in no fixed order.
pub fn by_cluster(frames_nd: &Tensor, nearest_n: &Tensor, clusters: usize) -> Sums {
    match frames_nd.device() {
        Device::Cpu => one_by_one(frames_nd, nearest_n, clusters),
        _ => by_product(frames_nd, nearest_n, clusters),
    }
}

fn one_by_one(frames_nd: &Tensor, nearest_n: &Tensor, clusters: usize) -> Sums {
    let (count, width) = frames_nd.size2().expect("frames are N × D");
    let columns = width as usize;
    let mut sums = vec![0f64; clusters * columns];
    let mut counts = vec![0f64; clusters];
    let mut frames = vec![0f32; BLOCK.min(count) as usize * columns];
    let mut nearest = vec![0i64; BLOCK.min(count) as usize];
    for start in (0..count).step_by(BLOCK as usize) {
        let length = BLOCK.min(count - start);
        frames_nd.narrow(0, start, length).contiguous().copy_data(&mut frames, length as usize * columns);
        nearest_n.narrow(0, start, length).contiguous().copy_data(&mut nearest, length as usize);
        for (&cluster, frame) in nearest[..length as usize].iter().zip(frames.chunks_exact(columns)) {
            let cluster = cluster as usize;
            counts[cluster] += 1.;
            for (sum, &value) in sums[cluster * columns..(cluster + 1) * columns].iter_mut().zip(frame) {
                *sum += f64::from(value);
            }
        }
    }
    Sums { frames_kd: Tensor::from_slice(&sums).view([clusters as i64, width]), count_k: Tensor::from_slice(&counts) }
}

fn by_product(frames_nd: &Tensor, nearest_n: &Tensor, clusters: usize) -> Sums {
    let (count, width) = frames_nd.size2().expect("frames are N × D");
    let options = (Kind::Double, frames_nd.device());
    let mut sums = Sums {
        frames_kd: Tensor::zeros([clusters as i64, width], options),
        count_k: Tensor::zeros([clusters as i64], options),
    };
    for start in (0..count).step_by(BLOCK as usize) {
        let length = BLOCK.min(count - start);
        let members = Tensor::zeros([clusters as i64, length], options).scatter_value(
            0,
            &nearest_n.narrow(0, start, length).unsqueeze(0),
            1.,
        );
        sums.frames_kd += members.matmul(&frames_nd.narrow(0, start, length).to_kind(Kind::Double));
        sums.count_k += members.sum_dim_intlist(1, false, Kind::Double);
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_summing_agree() {
        tch::manual_seed(3);
        let frames = Tensor::randn([BLOCK + 17, 5], (Kind::Float, Device::Cpu));
        let nearest = Tensor::randint(6, [BLOCK + 17], (Kind::Int64, Device::Cpu));
        let (a, b) = (one_by_one(&frames, &nearest, 7), by_product(&frames, &nearest, 7));
        assert_eq!(a.count_k, b.count_k);
        assert!((a.frames_kd - b.frames_kd).abs().max().double_value(&[]) < 1e-9);
        assert_eq!(a.count_k.double_value(&[6]), 0.);
    }
}
