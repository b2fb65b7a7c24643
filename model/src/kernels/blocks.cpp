// The two halves of a Transformer block in bfloat16, each one function with a backward pass by hand: products, and between them one pass over
// the rows. A graph of operations casts what is cast already and passes over memory for every bias, GELU, dropout and sum by itself.

#include "attention.h"
#include "functions.h"
#include "rows.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/autograd/custom_function.h>

namespace reprise {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Operations as they are, without autocast and gradients.
struct Plain {
    at::AutoDispatchBelowADInplaceOrView without_gradients;
    c10::impl::ExcludeDispatchKeyGuard without_autocast{c10::DispatchKey::AutocastCPU};
};

// What dropout keeps inside a block and of what it gives.
struct Drops {
    Keep inner, outer;

    void save(AutogradContext *context) const {
        const auto number = [](uint64_t bits) { return static_cast<int64_t>(bits); };
        context->saved_data["drops"] =
            std::vector<int64_t>{number(inner.key), inner.threshold, number(outer.key), outer.threshold};
    }

    static Drops saved(AutogradContext *context) {
        const auto numbers = context->saved_data["drops"].toIntVector();
        const auto keep = [&](size_t at) { return Keep(static_cast<uint64_t>(numbers[at]), numbers[at + 1] / 65536.0); };
        return {keep(0), keep(2)};
    }
};

at::Tensor flat(const at::Tensor &x) { return x.reshape({-1, x.size(-1)}); }

// The gradients of a projection's weight and bias, from that of what it gives and from what it was given.
void project_back(const Summed &gradient, const at::Tensor &x, at::Tensor &of_weight, at::Tensor &of_bias) {
    of_weight = widened(at::mm(gradient.rows.t(), x));
    of_bias = gradient.sums;
}

// What passes on to the input of a block, whose residual it is where that is the same tensor.
at::Tensor passed_on(const at::Tensor &half, bool residual, const at::Tensor &gradient) {
    return widened(half, residual ? gradient : at::Tensor());
}

struct FeedForwardBlock : torch::autograd::Function<FeedForwardBlock> {
    static at::Tensor forward(
        AutogradContext *context, const at::Tensor &residual, const at::Tensor &x, const at::Tensor &w1, const at::Tensor &b1,
        const at::Tensor &w2, const at::Tensor &b2, Drops drops
    ) {
        const Plain plain;
        const at::Tensor input = half({flat(x)}), below = half({w1}), above = half({w2});
        const at::Tensor inner = at::mm(input, below.t());
        const at::Tensor active = gelu_rows(inner, b1, drops.inner);
        const at::Tensor y = at::mm(active, above.t());
        context->save_for_backward({input, below, inner, b1, active, above});
        drops.save(context);
        context->saved_data["same"] = residual.is_same(x);
        return add_rows(residual.contiguous(), y, b2, drops.outer);
    }

    static variable_list backward(AutogradContext *context, variable_list gradients) {
        const Plain plain;
        const auto saved = context->get_saved_variables();
        const at::Tensor &input = saved[0], &below = saved[1], &inner = saved[2], &b1 = saved[3], &active = saved[4], &above = saved[5];
        const bool same = context->saved_data["same"].toBool();
        const Drops drops = Drops::saved(context);
        const at::Tensor gradient = gradients[0].contiguous();
        at::Tensor of_w1, of_b1, of_w2, of_b2;
        const Summed of_y = add_gradient(gradient, drops.outer);
        project_back(of_y, active, of_w2, of_b2);
        const Summed of_inner = gelu_gradient(at::mm(of_y.rows, above), inner, b1, drops.inner);
        project_back(of_inner, input, of_w1, of_b1);
        const at::Tensor of_x = passed_on(at::mm(of_inner.rows, below), same, gradient).view(gradient.sizes());
        return {same ? at::Tensor() : gradient, of_x, of_w1, of_b1, of_w2, of_b2, {}};
    }
};

// What projections are made of: queries alone where they are asked elsewhere, else queries, keys and values together.
struct Source {
    at::Tensor x, weight;
    int64_t parts;

    std::vector<at::Tensor> heads(const at::Tensor &bias, int64_t rows, int64_t heads) const {
        return split_heads(at::mm(x, weight.t()), bias, rows, heads, parts);
    }
};

struct AttentionBlock : torch::autograd::Function<AttentionBlock> {
    static at::Tensor forward(
        AutogradContext *context, const at::Tensor &residual, const at::Tensor &x, const std::optional<at::Tensor> &asking,
        const at::Tensor &wq, const at::Tensor &bq, const at::Tensor &wk, const at::Tensor &bk, const at::Tensor &wv, const at::Tensor &bv,
        const at::Tensor &wo, const at::Tensor &bo, const std::optional<at::Tensor> &keys, const std::optional<at::Tensor> &kept,
        int64_t heads, Drops drops
    ) {
        const Plain plain;
        const int64_t rows = x.size(0);
        const Extent extent = {asking ? asking->size(1) : x.size(1), x.size(1)};
        const at::Tensor input = half({flat(x)}), out = half({wo});
        std::vector<at::Tensor> qkv;
        at::Tensor asked, of_queries, others;
        if (asking) {
            asked = half({flat(*asking)}), of_queries = half({wq}), others = half({wk, wv});
            qkv = Source{asked, of_queries, 1}.heads(bq, rows, heads);
            const auto more = Source{input, others, 2}.heads(at::cat({bk, bv}), rows, heads);
            qkv.insert(qkv.end(), more.begin(), more.end());
        } else {
            others = half({wq, wk, wv});
            qkv = Source{input, others, 3}.heads(at::cat({bq, bk, bv}), rows, heads);
        }
        const Attended attended = attend(qkv[0], qkv[1], qkv[2], extent, keys, heads, drops.inner);
        at::Tensor y = merge_heads({attended.y}, rows, extent.queries, heads).rows;
        if (kept) y = y.index_select(0, *kept);
        context->save_for_backward({
            input, others, qkv[0], qkv[1], qkv[2], attended.shares, y, out, asked, of_queries, kept.value_or(at::Tensor()),
        });
        context->saved_data["shape"] = std::vector<int64_t>{rows, extent.queries, extent.keys, heads};
        drops.save(context);
        context->saved_data["same"] = residual.is_same(x);
        return add_rows(residual.contiguous(), at::mm(y, out.t()), bo, drops.outer);
    }

    static variable_list backward(AutogradContext *context, variable_list gradients) {
        const Plain plain;
        const auto saved = context->get_saved_variables();
        const at::Tensor &input = saved[0], &others = saved[1], &query = saved[2], &key = saved[3], &value = saved[4], &shares = saved[5],
                         &y = saved[6], &out = saved[7], &asked = saved[8], &of_queries = saved[9], &kept = saved[10];
        const auto shape = context->saved_data["shape"].toIntVector();
        const int64_t rows = shape[0], heads = shape[3], width = out.size(1);
        const Extent extent = {shape[1], shape[2]};
        const bool same = context->saved_data["same"].toBool();
        const Drops drops = Drops::saved(context);
        const at::Tensor gradient = gradients[0].contiguous();
        at::Tensor of_out, of_bias, of_weights, of_biases, of_asking, of_wq, of_bq;
        const Summed of_y = add_gradient(gradient, drops.outer);
        project_back(of_y, y, of_out, of_bias);
        at::Tensor of_merged = at::mm(of_y.rows, out);
        if (kept.defined()) {
            at::Tensor all = at::zeros({rows * extent.queries, width}, of_merged.options());
            of_merged = all.index_copy_(0, kept, of_merged);
        }
        const at::Tensor of_attended = split_heads(of_merged, {}, rows, heads, 1)[0];
        std::vector<at::Tensor> of_qkv = attend_gradient(of_attended, query, key, value, shares, extent, drops.inner);
        if (asked.defined()) {
            const Summed of_query = merge_heads({of_qkv[0]}, rows, extent.queries, heads);
            project_back(of_query, asked, of_wq, of_bq);
            of_asking = widened(at::mm(of_query.rows, of_queries)).view({rows, extent.queries, width});
            of_qkv.erase(of_qkv.begin());
        }
        const Summed merged = merge_heads(of_qkv, rows, extent.keys, heads);
        project_back(merged, input, of_weights, of_biases);
        const at::Tensor of_x = passed_on(at::mm(merged.rows, others), same, gradient).view({rows, extent.keys, width});
        const auto part = [&](const at::Tensor &all, int64_t index) {
            return all.narrow(0, (asked.defined() ? index - 1 : index) * width, width);
        };
        if (!asked.defined()) of_wq = part(of_weights, 0), of_bq = part(of_biases, 0);
        return {
            same ? at::Tensor() : gradient, of_x, of_asking, of_wq, of_bq, part(of_weights, 1), part(of_biases, 1), part(of_weights, 2),
            part(of_biases, 2), of_out, of_bias, {}, {}, {}, {},
        };
    }
};

} // namespace

at::Tensor feed_forward_block(
    const at::Tensor &residual, const at::Tensor &x, const std::vector<at::Tensor> &w, Keep inner, Keep outer
) {
    return FeedForwardBlock::apply(residual, x, w[0], w[1], w[2], w[3], Drops{inner, outer});
}

at::Tensor attention_block(
    const at::Tensor &residual, const at::Tensor &x, const Asked &asked, const std::vector<at::Tensor> &w,
    const std::optional<at::Tensor> &keys, int64_t heads, Keep inner, Keep outer
) {
    const std::optional<at::Tensor> seen = keys ? std::optional(keys->contiguous()) : std::nullopt;
    return AttentionBlock::apply(
        residual, x, asked.queries, w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7], seen, asked.kept, heads, Drops{inner, outer}
    );
}

} // namespace reprise
