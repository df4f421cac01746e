//go:build cgo

// What a host finds in the shared library. It stands in C, where a table with function pointers is
// four lines; Go would need a helper for each pointer.
#include "_cgo_export.h"
#include "jackfield.h"

JF_DEFINE_HEADER("jackfield.h from Go");

static jf_status call(void *state, const jf_call *call, const jf_sink *sink) {
    (void)state;
    return greeterCall((jf_call *)call, (jf_sink *)sink); // Go has no const
}

static const jf_about who = {
    .size = sizeof(jf_about),
    .name = JF_STR("greeter-go-native"),
    .version = JF_STR("1.0.0"),
    .capabilities = JF_STR("greeting@1 batch@2 polite@1"),
};

static const jf_interface greeter = {
    .size = sizeof(jf_interface),
    .flags = JF_INTERFACE_ANY_THREAD,
    .id = JF_STR("demo:greeter/greeter@1.0.0"),
    .call = call,
};

int32_t jackfield_register(const jf_host *host, const jf_registry *registry) {
    (void)host;
    int32_t refused = registry->about(registry->context, &who);
    return refused ? refused : registry->add(registry->context, &greeter);
}
