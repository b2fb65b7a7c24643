// A part of a network that is computed twice: its inputs are kept for the backward pass, what it computes from them isn't.

#include "functions.h"

#include <ATen/Context.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/Generator.h>
#include <ATen/core/grad_mode.h>
#include <ATen/core/ivalue.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>

namespace reprise {

namespace {

struct Owned : torch::CustomClassHolder {
    Part part;

    explicit Owned(Part part) : part(part) {}
    Owned(const Owned &) = delete;
    Owned &operator=(const Owned &) = delete;
    ~Owned() override { part.drop(part.state); }

    at::Tensor operator()(const at::Tensor &x, const at::Tensor &more) const {
        at::Tensor given = x, also = more, *out = nullptr;
        if (char *error = part.run(part.state, &given, also.defined() ? &also : nullptr, &out)) {
            const std::string text(error);
            std::free(error);
            throw std::runtime_error(text);
        }
        return *std::unique_ptr<at::Tensor>(out);
    }
};

// The states of the generators that a part on this device draws from, put back when it ends.
struct Random {
    at::Generator cpu, device;
    at::Tensor of_cpu, of_device;

    explicit Random(at::Device where) : cpu(at::globalContext().defaultGenerator(at::kCPU)), of_cpu(cpu.get_state()) {
        if (where.is_cpu()) return;
        device = at::globalContext().defaultGenerator(where);
        of_device = device.get_state();
    }

    void set(const at::Tensor &cpu_state, const at::Tensor &device_state) {
        cpu.set_state(cpu_state);
        if (device.defined()) device.set_state(device_state);
    }
};

// Autocast as it was, and nothing that it casts is remembered: a weight cast without a gradient must not meet a pass that needs one.
struct Casting {
    at::DeviceType device;
    bool on, remembers;

    Casting(at::DeviceType device, bool wanted)
        : device(device), on(at::autocast::is_autocast_enabled(device)), remembers(at::autocast::is_autocast_cache_enabled()) {
        at::autocast::set_autocast_enabled(device, wanted);
        at::autocast::set_autocast_cache_enabled(false);
    }

    ~Casting() {
        at::autocast::set_autocast_cache_enabled(remembers);
        at::autocast::set_autocast_enabled(device, on);
    }
};

// An input of the second pass, and its gradient as it arrives: `grad()` would lay it out anew, and sums over it would take another order.
struct Leaf {
    at::Tensor x, gradient;

    explicit Leaf(const at::Tensor &of) : x(of) {
        if (!of.defined()) return;
        x = of.detach().set_requires_grad(of.requires_grad());
        if (x.requires_grad()) x.register_hook([this](const at::Tensor &arrived) { gradient = arrived; });
    }
    Leaf(const Leaf &) = delete;
    Leaf &operator=(const Leaf &) = delete;
};

struct Recomputed : torch::autograd::Function<Recomputed> {
    // `token` has a gradient, so that the output has one even where no input does.
    static at::Tensor forward(
        torch::autograd::AutogradContext *context, const at::Tensor &x, const std::optional<at::Tensor> &more, const at::Tensor &token,
        c10::intrusive_ptr<Owned> part
    ) {
        const bool half = at::autocast::is_autocast_enabled(x.device().type());
        const Random random(x.device());
        const at::Tensor also = more.value_or(at::Tensor());
        context->save_for_backward({x, also, random.of_cpu, random.of_device});
        context->saved_data["half"] = half;
        context->saved_data["part"] = c10::IValue::make_capsule(part);
        const Casting casting(x.device().type(), half);
        return (*part)(x, also);
    }

    static torch::autograd::variable_list
    backward(torch::autograd::AutogradContext *context, torch::autograd::variable_list gradients) {
        const auto saved = context->get_saved_variables();
        const auto part = c10::static_intrusive_pointer_cast<Owned>(context->saved_data["part"].toCapsule());
        const Leaf x(saved[0]), more(saved[1]);
        at::Tensor y;
        {
            Random random(x.x.device());
            const Casting casting(x.x.device().type(), context->saved_data["half"].toBool());
            const at::AutoGradMode recorded(true);
            random.set(saved[2], saved[3]);
            y = (*part)(x.x, more.x);
            random.set(random.of_cpu, random.of_device);
        }
        // Nothing in a frozen part has a gradient.
        if (y.requires_grad()) torch::autograd::backward({y}, {gradients[0]});
        return {x.gradient, more.gradient, {}, {}};
    }
};

} // namespace

at::Tensor recomputed(const at::Tensor &x, const std::optional<at::Tensor> &more, Part part) {
    auto owned = c10::make_intrusive<Owned>(part);
    if (!at::GradMode::is_enabled()) return (*owned)(x, more.value_or(at::Tensor()));
    const at::Tensor token = at::empty({0}, x.options().dtype(at::kFloat)).set_requires_grad(true);
    return Recomputed::apply(x, more, token, owned);
}

} // namespace reprise
