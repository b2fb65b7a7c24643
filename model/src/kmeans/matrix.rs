//! Numbers in memory, row after row, and what k-means computes of them on one thread.

use tch::{Device, Kind, Tensor};

/// Numbers that are added side by side: sums are the same on every processor, and its widest instructions can be used.
const LANES: usize = 32;

/// Rows of equally many `f32`.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    pub numbers: &'a [f32],
    pub width: usize,
}

impl<'a> Matrix<'a> {
    /// The numbers of a tensor that lies on the CPU row after row (N × D, `f32`), which nobody may write to meanwhile.
    pub fn of(tensor_nd: &'a Tensor) -> Option<Self> {
        let (count, width) = tensor_nd.size2().ok()?;
        let fits = tensor_nd.device() == Device::Cpu && tensor_nd.kind() == Kind::Float && tensor_nd.is_contiguous();
        if !fits || tensor_nd.numel() == 0 {
            return None;
        }
        // SAFETY: a contiguous tensor of this kind on the CPU has N × D `f32` from its first one on, and lives as long as the borrow.
        let numbers =
            unsafe { std::slice::from_raw_parts(tensor_nd.data_ptr().cast::<f32>(), (count * width) as usize) };
        Some(Self { numbers, width: width as usize })
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.numbers.len() / self.width
    }

    /// One row.
    pub fn row(&self, at: usize) -> &'a [f32] {
        &self.numbers[at * self.width..(at + 1) * self.width]
    }
}

/// `out` (M × N) becomes `left` (M × D) times the transposed `right` (N × D).
pub fn product(left: Matrix, right: Matrix, out: &mut [f32]) {
    let (rows, columns) = (left.rows(), right.rows());
    assert_eq!(out.len(), rows * columns);
    let borrowed = |numbers: *const f32, rows: usize, width: usize| {
        let size = [rows as i64, width as i64];
        // SAFETY: each pointer is to as many numbers, which outlive this function; the tensors don't, and only that of `out` is written to.
        unsafe { Tensor::from_blob(numbers.cast(), &size, &[size[1], 1], Kind::Float, Device::Cpu) }
    };
    let left = borrowed(left.numbers.as_ptr(), rows, left.width);
    let right = borrowed(right.numbers.as_ptr(), columns, right.width);
    let _ = left.mm_out(&borrowed(out.as_mut_ptr(), rows, columns), &right.transpose(0, 1));
}

/// Compiles a function for any processor, and again for those with AVX2; both give the same bits, because no numbers change lanes.
macro_rules! wide {
    ($($(#[$doc:meta])* pub fn $name:ident($($argument:ident: $type:ty),*) $(-> $out:ty)? $body:block)*) => {$(
        $(#[$doc])*
        pub fn $name($($argument: $type),*) $(-> $out)? {
            #[inline(always)]
            fn plain($($argument: $type),*) $(-> $out)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn wide($($argument: $type),*) $(-> $out)? {
                    plain($($argument),*)
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has the instructions.
                    return unsafe { wide($($argument),*) };
                }
            }
            plain($($argument),*)
        }
    )*};
}

wide! {
    /// The inner product.
    pub fn dot(left: &[f32], right: &[f32]) -> f32 {
        folded(left, right, |left, right| left * right)
    }

    /// The squared distance, by subtraction.
    pub fn distance(left: &[f32], right: &[f32]) -> f32 {
        folded(left, right, |left, right| (left - right) * (left - right))
    }

    /// The sum of the lesser of each pair.
    pub fn sum_of_least(left: &[f32], right: &[f32]) -> f32 {
        folded(left, right, |left, right| if left < right { left } else { right })
    }

    /// The least of some numbers; infinity where there are none.
    pub fn least(numbers: &[f32]) -> f32 {
        let (chunks, rest) = numbers.as_chunks::<LANES>();
        let mut lanes = [f32::INFINITY; LANES];
        for chunk in chunks {
            for lane in 0..LANES {
                lanes[lane] = if chunk[lane] < lanes[lane] { chunk[lane] } else { lanes[lane] };
            }
        }
        lanes.iter().chain(rest).fold(f32::INFINITY, |least, &number| if number < least { number } else { least })
    }

    /// Whether one of some numbers is at most `bound`.
    pub fn any_within(numbers: &[f32], bound: f32) -> bool {
        numbers.iter().fold(false, |any, &number| any | (number <= bound))
    }

    /// Lowers each number to that beside it, where that is less.
    pub fn lower(numbers: &mut [f32], others: &[f32]) {
        numbers.iter_mut().zip(others).for_each(|(number, &other)| *number = if other < *number { other } else { *number });
    }

    /// Puts the differences of numbers and others into `place`.
    pub fn difference(place: &mut [f32], numbers: &[f32], others: &[f32]) {
        place.iter_mut().zip(numbers).zip(others).for_each(|((place, number), other)| *place = number - other);
    }

    /// Takes from each number that beside it.
    pub fn subtract(numbers: &mut [f32], others: &[f32]) {
        numbers.iter_mut().zip(others).for_each(|(number, other)| *number -= other);
    }

    /// Adds a frame so many times.
    pub fn add(sums: &mut [f64], frame: &[f32], times: f64) {
        sums.iter_mut().zip(frame).for_each(|(sum, &value)| *sum += times * f64::from(value));
    }

    /// Makes `squares` minus twice the products of products.
    pub fn offset(products: &mut [f32], squares: &[f32]) {
        products.iter_mut().zip(squares).for_each(|(product, &square)| *product = square - 2. * *product);
    }
}

/// Asks for numbers that are needed soon: rows lie far from each other, and the processor can't guess which one is next.
#[inline(always)]
pub fn soon(numbers: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    for line in numbers.chunks(64 / size_of::<f32>()) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint, which every processor of this kind takes, and which reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
}

#[inline(always)]
fn folded(left: &[f32], right: &[f32], each: impl Fn(f32, f32) -> f32) -> f32 {
    let ((left, left_rest), (right, right_rest)) = (left.as_chunks::<LANES>(), right.as_chunks::<LANES>());
    let mut sums = [0f32; LANES];
    for (left, right) in left.iter().zip(right) {
        for lane in 0..LANES {
            sums[lane] += each(left[lane], right[lane]);
        }
    }
    let rest: f32 = left_rest.iter().zip(right_rest).map(|(&left, &right)| each(left, right)).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_are_multiplied_and_folded_as_libtorch_does(rows in 1i64..9, others in 1i64..9, width in 1i64..70, seed: i64) {
            tch::manual_seed(seed);
            let [left, right] = [rows, others].map(|rows| Tensor::randn([rows, width], (Kind::Float, Device::Cpu)));
            let (left_md, right_nd) = (Matrix::of(&left).unwrap(), Matrix::of(&right).unwrap());
            let mut out = vec![0.; (rows * others) as usize];
            product(left_md, right_nd, &mut out);
            let expected = left.matmul(&right.transpose(0, 1));
            prop_assert!((Tensor::from_slice(&out).view([rows, others]) - &expected).abs().max().double_value(&[]) < 1e-4);
            let (a, b) = (left_md.row(0), right_nd.row(0));
            prop_assert!((f64::from(dot(a, b)) - expected.double_value(&[0, 0])).abs() < 1e-4);
            let (a_d, b_d) = (left.get(0), right.get(0));
            let apart = (&a_d - &b_d).square().sum(Kind::Double).double_value(&[]);
            prop_assert!((f64::from(distance(a, b)) - apart).abs() < 1e-3);
            let lesser = a_d.minimum(&b_d).sum(Kind::Double).double_value(&[]);
            prop_assert!((f64::from(sum_of_least(a, b)) - lesser).abs() < 1e-4);
            prop_assert_eq!(f64::from(least(a)), a_d.min().double_value(&[]));
        }
    }

    #[test]
    fn only_what_lies_row_after_row_is_taken() {
        let tensor = Tensor::arange(6, (Kind::Float, Device::Cpu)).view([2, 3]);
        assert_eq!(Matrix::of(&tensor).unwrap().row(1), [3., 4., 5.]);
        assert!(Matrix::of(&tensor.transpose(0, 1)).is_none());
        assert!(Matrix::of(&tensor.to_kind(Kind::Double)).is_none());
    }
}
