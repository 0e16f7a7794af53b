//! [`Differentiable`]: what a backend needs beside its operations so that a [tape](crate::tape) can learn on it.
//!
//! A tape takes the fused operations of [`Backend`] apart where the backward pass needs what lies between their parts, so
//! the first half of the trait are those parts; the second half are the derivatives. `g…` is the derivative of the loss by
//! what the letter stands for, of its shape. An argument that is said to be added to keeps what it held.

use crate::backend::{Activation, Backend, BackendError, Map, Mask, Norm, Rotary, View, ViewMut};

/// One dropping: element `i` of a row-major view is dropped where the `i`-th 16-bit number of the Philox stream lies below
/// `rate · 2¹⁶`; the others are divided by `1 − rate`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DropMask {
    /// Share that is dropped, from 0 to below 1.
    pub rate: f32,
    /// Key of the generator.
    pub seed: u64,
    /// Which of its streams.
    pub stream: u64,
}

impl DropMask {
    /// Numbers below this are dropped.
    pub fn threshold(&self) -> u16 {
        (self.rate * 65536.0) as u16
    }

    /// What is kept is multiplied by this.
    pub fn scale(&self) -> f32 {
        1.0 / (1.0 - self.rate)
    }
}

/// The functions between two products.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// `x Φ(x)`, `[M, C]` → `[M, C]`.
    Gelu,
    /// The first half of the columns times the GELU of the second, `[M, 2C]` → `[M, C]`.
    Geglu,
}

/// Arguments of [`Differentiable::attend`]: plain attention of `M` queries to `S` keys, everything rotated already.
#[derive(Debug)]
pub struct Attend<'a, B: Backend + ?Sized> {
    /// `[M, H·Dh]`.
    pub query: View<'a, B::Tensor>,
    /// `[S, H·Dh]`.
    pub key: View<'a, B::Tensor>,
    /// `[S, H·Dh]`.
    pub value: View<'a, B::Tensor>,
    /// `H`.
    pub heads: usize,
    /// Which keys a query sees.
    pub mask: Mask,
    /// Which weights are dropped; element `(h·M + i)·S + j` is that of head `h`, query `i`, key `j`.
    pub drop: Option<DropMask>,
}

impl<B: Backend + ?Sized> Clone for Attend<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<B: Backend + ?Sized> Copy for Attend<'_, B> {}

/// Parts of operations, and derivatives.
pub trait Differentiable: Backend {
    // ---- parts ---------------------------------------------------------------------------------------------------

    /// `out = norm(x)`.
    fn normalise(&mut self, x: View<'_, Self::Tensor>, norm: Norm<'_, Self::Tensor>, out: ViewMut<'_, Self::Tensor>);
    /// `out = unit(x)`.
    fn activate(&mut self, unit: Unit, x: View<'_, Self::Tensor>, out: ViewMut<'_, Self::Tensor>);
    /// Drops elements of `x` in place. Its own derivative.
    fn drop_elements(&mut self, mask: DropMask, x: ViewMut<'_, Self::Tensor>);
    /// [`Backend::rotate`] by the opposite angles: its derivative.
    fn rotate_back(&mut self, rotary: Rotary<'_, Self::Rotation>, x: ViewMut<'_, Self::Tensor>);
    /// Attention that keeps what its derivative needs in `weights` `[H·M, S]`, in the backend's own form.
    fn attend(&mut self, args: Attend<'_, Self>, weights: ViewMut<'_, Self::Tensor>, out: ViewMut<'_, Self::Tensor>);
    /// `Σ w (exp(r) − y r)` over all elements: the Poisson negative log-likelihood without the constant. `log_rates`,
    /// `counts` and `weights` of one shape.
    fn poisson_loss(
        &mut self,
        log_rates: View<'_, Self::Tensor>,
        counts: View<'_, Self::Tensor>,
        weights: View<'_, Self::Tensor>,
    ) -> Result<f64, BackendError>;

    // ---- derivatives ---------------------------------------------------------------------------------------------

    /// Added to `g`: `scale · w (exp(r) − y)`.
    fn poisson_loss_backward(
        &mut self,
        log_rates: View<'_, Self::Tensor>,
        counts: View<'_, Self::Tensor>,
        weights: View<'_, Self::Tensor>,
        scale: f32,
        g: ViewMut<'_, Self::Tensor>,
    );
    /// Of `y = x Wᵀ` by `W`, added to `gw` `[O, I]`: `gyᵀ x`, `gy` `[M, O]`, `x` `[M, I]`.
    fn weight_gradient(&mut self, gy: View<'_, Self::Tensor>, x: View<'_, Self::Tensor>, gw: ViewMut<'_, Self::Tensor>);
    /// Added to `out` `[1, C]`: the sums of the columns of `g` `[M, C]`.
    fn column_sums(&mut self, g: View<'_, Self::Tensor>, out: ViewMut<'_, Self::Tensor>);
    /// Of `y = norm(x)`: added to `gx`, `ggain` and `gbias`.
    fn normalise_backward(
        &mut self,
        x: View<'_, Self::Tensor>,
        norm: Norm<'_, Self::Tensor>,
        gy: View<'_, Self::Tensor>,
        gx: ViewMut<'_, Self::Tensor>,
        ggain: &mut Self::Tensor,
        gbias: &mut Self::Tensor,
    );
    /// Of `y = unit(x)`: replaces `gx`.
    fn activate_backward(
        &mut self,
        unit: Unit,
        x: View<'_, Self::Tensor>,
        gy: View<'_, Self::Tensor>,
        gx: ViewMut<'_, Self::Tensor>,
    );
    /// Of [`attend`](Self::attend), whose output was `out`: replaces `gq`, `gk` and `gv`.
    #[allow(clippy::too_many_arguments)] // three inputs, three derivatives
    fn attend_backward(
        &mut self,
        args: Attend<'_, Self>,
        weights: View<'_, Self::Tensor>,
        out: View<'_, Self::Tensor>,
        gout: View<'_, Self::Tensor>,
        gq: ViewMut<'_, Self::Tensor>,
        gk: ViewMut<'_, Self::Tensor>,
        gv: ViewMut<'_, Self::Tensor>,
    );
    /// Of `y = f(x)`: added to `gx`.
    fn map_backward(
        &mut self,
        f: Map,
        x: View<'_, Self::Tensor>,
        gy: View<'_, Self::Tensor>,
        gx: ViewMut<'_, Self::Tensor>,
    );
    /// Of [`Backend::outer_add`]: added to `ga` and `gb`.
    #[allow(clippy::too_many_arguments)] // two inputs, two derivatives
    fn outer_add_backward(
        &mut self,
        a: View<'_, Self::Tensor>,
        b: View<'_, Self::Tensor>,
        activation: Activation,
        gy: View<'_, Self::Tensor>,
        ga: ViewMut<'_, Self::Tensor>,
        gb: ViewMut<'_, Self::Tensor>,
    );
    /// Of [`Backend::outer_dot`]: added to `ga` and `gb`.
    fn outer_dot_backward(
        &mut self,
        a: View<'_, Self::Tensor>,
        b: View<'_, Self::Tensor>,
        gy: View<'_, Self::Tensor>,
        ga: ViewMut<'_, Self::Tensor>,
        gb: ViewMut<'_, Self::Tensor>,
    );
    /// Of `z = x · y`, element by element: added to `gx` and `gy`.
    fn multiply_backward(
        &mut self,
        x: View<'_, Self::Tensor>,
        y: View<'_, Self::Tensor>,
        gz: View<'_, Self::Tensor>,
        gx: ViewMut<'_, Self::Tensor>,
        gy: ViewMut<'_, Self::Tensor>,
    );
    /// Of [`Backend::sum_rows`]: added to `gweights` and `gx`.
    fn sum_rows_backward(
        &mut self,
        weights: View<'_, Self::Tensor>,
        x: View<'_, Self::Tensor>,
        gy: View<'_, Self::Tensor>,
        gweights: ViewMut<'_, Self::Tensor>,
        gx: ViewMut<'_, Self::Tensor>,
    );
    /// Of [`Backend::pool`]: added to `gscores` and `gvalues`. Both or neither of `scores` and `gscores`.
    fn pool_backward(
        &mut self,
        scores: Option<View<'_, Self::Tensor>>,
        values: View<'_, Self::Tensor>,
        gy: View<'_, Self::Tensor>,
        gscores: Option<ViewMut<'_, Self::Tensor>>,
        gvalues: ViewMut<'_, Self::Tensor>,
    );
    /// Of [`Backend::gather`]: row `i` of `g` is added to row `rows[i]` of `gtable`.
    fn scatter_add(&mut self, g: View<'_, Self::Tensor>, rows: &Self::Rows, gtable: ViewMut<'_, Self::Tensor>);
}
