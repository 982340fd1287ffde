/* SPDX-License-Identifier: MIT */
/* emulator.cc: devices, memory, streams; and launches, whose threads are fibers. */
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <numeric>
#include <random>
#include <sys/mman.h>
#include <ucontext.h>
#include <vector>

#include "backend/cuda/ptx.h"
#include "races.h"

/* Bounds of the pieces of the device's memory, and of shared memory. */
#if defined __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define FORBID(memory, bytes) ASAN_POISON_MEMORY_REGION(memory, bytes)
#define ALLOW(memory, bytes)  ASAN_UNPOISON_MEMORY_REGION(memory, bytes)
#else
#define FORBID(memory, bytes) ((void)0)
#define ALLOW(memory, bytes)  ((void)0)
#endif

namespace
{

[[noreturn]] void give_up(const char *what, const char *kernel)
{
    fprintf(stderr, "cuda_emulator: %s in %s\n", what, kernel);
    abort();
}

/* ---- fibers ------------------------------------------------------------------------------ */

enum waiting { RUNNING, AT_BARRIER, WITH_WARP, DONE };

struct copy {
    void *to;
    const void *from;
    int bytes, group;
    uint32_t asked; /* when, by the clock of races */
};

struct fiber : emulator::thread {
    waiting state;
    void *mine; /* what it hands over to its warp */
    std::vector<copy> copies;
    int group; /* of copies */
    unsigned char *stack;
    ucontext_t context;
    void *switch_buffer[5]; /* of __builtin_setjmp */
    bool started;
    void *fake_stack;
};

#if defined __SANITIZE_ADDRESS__
const size_t STACK = 256 * 1024;
#else
const size_t STACK = 64 * 1024;
#endif
const int MAX_THREADS = 1024;

fiber fibers[MAX_THREADS];
int n_fibers;
void *host_buffer[5];
const std::function<void()> *body;
const char *kernel_name;
void *host_fake_stack;
const void *host_stack;
size_t host_stack_bytes;
std::mutex device; /* one launch at a time */

void enter_fiber(void **save, const void *stack, size_t bytes)
{
#if defined __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(save, stack, bytes);
#else
    (void)save, (void)stack, (void)bytes;
#endif
}

void entered(void *saved, const void **from, size_t *bytes)
{
#if defined __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(saved, from, bytes);
#else
    (void)saved, (void)from, (void)bytes;
#endif
}

/* Jumps need a frame of their own. No frame is left for good, so nothing of a stack is to be
 * forgotten, which is what AddressSanitizer would do before a jump. */
__attribute__((noinline, no_sanitize_address)) void jump(void **buffer)
{
    __builtin_longjmp(buffer, 1);
}

/* Back to the loop over fibers, until this one's turn comes again. */
__attribute__((noinline, no_sanitize_address)) void yield(waiting state)
{
    fiber *self = (fiber *)emulator::current;
    self->state = state;
    enter_fiber(&self->fake_stack, host_stack, host_stack_bytes);
    if (__builtin_setjmp(self->switch_buffer) == 0)
        jump(host_buffer);
    self = (fiber *)emulator::current;
    entered(self->fake_stack, &host_stack, &host_stack_bytes);
}

void fiber_main()
{
    entered(NULL, &host_stack, &host_stack_bytes);
    for (;;) {
        (*body)();
        yield(DONE);
    }
}

__attribute__((noinline, no_sanitize_address)) void resume(fiber *f)
{
    emulator::current = f;
    enter_fiber(&host_fake_stack, f->stack, STACK);
    if (__builtin_setjmp(host_buffer) == 0) {
        if (f->started)
            jump(f->switch_buffer);
        f->started = true;
        setcontext(&f->context);
        /* Also so that the call isn't made in the place of a return, from a frame that is gone. */
        give_up("a fiber that doesn't begin", kernel_name);
    }
    entered(host_fake_stack, NULL, NULL);
}

void make_fibers(int n)
{
    for (; n_fibers < n; n_fibers++) {
        fiber *f = &fibers[n_fibers];
        f->stack = (unsigned char *)mmap(NULL, STACK, PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (f->stack == MAP_FAILED)
            give_up("no memory for stacks", kernel_name);
        getcontext(&f->context);
        f->context.uc_stack.ss_sp = f->stack;
        f->context.uc_stack.ss_size = STACK;
        f->context.uc_link = NULL;
        makecontext(&f->context, fiber_main, 0);
    }
}

/* Whether the fibers [first, first + n) all wait for the same: then they go on. */
bool release(int first, int n, waiting state)
{
    for (int i = first; i < first + n; i++)
        if (fibers[i].state != state)
            return false;
    for (int i = first; i < first + n; i++)
        fibers[i].state = RUNNING;
    return true;
}

std::vector<int> order_of(int n, unsigned seed)
{
    std::vector<int> order(n);
    std::iota(order.begin(), order.end(), 0);
    if (seed != 0)
        std::shuffle(order.begin(), order.end(), std::mt19937(seed));
    return order;
}

unsigned seed;

void run_block(int threads)
{
    std::vector<int> order = order_of(threads, seed == 0 ? 0 : seed++);
    for (int i = 0; i < threads; i++) {
        fibers[i].index = dim3((unsigned)i);
        fibers[i].state = RUNNING;
        fibers[i].waited = false;
        fibers[i].copies.clear();
        fibers[i].group = 0;
    }
    for (;;) {
        bool progress = false, done = true;
        for (int i : order)
            if (fibers[i].state == RUNNING) {
                resume(&fibers[i]);
                progress = true;
            }
        if (release(0, threads, AT_BARRIER))
            races::block_barrier();
        for (int i = 0; i < threads; i++)
            done &= fibers[i].state == DONE;
        if (done) {
            for (int i = 0; i < threads; i++)
                if (!fibers[i].waited)
                    give_up("a thread that never waits for its inputs", kernel_name);
            return;
        }
        if (!progress)
            give_up("threads wait at a barrier, or in a warp, that others don't reach",
                    kernel_name);
    }
}

void run_launch(const char *kernel, dim3 grid, int threads, size_t shared_bytes,
                const std::function<void()> &thread_body)
{
    kernel_name = kernel;
    body = &thread_body;
    make_fibers(threads);
    emulator::block_size = dim3((unsigned)threads);
    emulator::grid_size = grid;
    races::begin_launch(kernel);
    unsigned char *memory = (unsigned char *)aligned_alloc(128, (shared_bytes + 127) / 128 * 128);
    FORBID(memory + shared_bytes, (shared_bytes + 127) / 128 * 128 - shared_bytes);
    emulator::shared = memory;
    for (int i : order_of((int)(grid.x * grid.y * grid.z), seed)) {
        unsigned index = (unsigned)i;
        emulator::block_index =
            dim3(index % grid.x, index / grid.x % grid.y, index / grid.x / grid.y);
        memset(memory, 0xff, shared_bytes);
        races::begin_block(memory, shared_bytes);
        run_block(threads);
    }
    races::end_launch();
    ALLOW(memory, (shared_bytes + 127) / 128 * 128);
    free(memory);
}

} // namespace

namespace emulator
{

thread *current;
dim3 block_index, block_size, grid_size;
unsigned char *shared;

void barrier()
{
    yield(AT_BARRIER);
}

void together(void *mine, void (*fn)(void *const *lanes))
{
    fiber *self = (fiber *)current;
    int first = (int)(self - fibers) / 32 * 32;
    void *lanes[32];
    self->mine = mine;
    self->state = WITH_WARP;
    for (int i = 0; i < 32; i++) {
        if (fibers[first + i].state != WITH_WARP) {
            yield(WITH_WARP);
            return;
        }
        lanes[i] = fibers[first + i].mine;
    }
    fn(lanes);
    release(first, 32, WITH_WARP);
}

void warp_barrier()
{
    together(NULL, [](void *const *) { races::warp_barrier((int)current->index.x / 32); });
}

void copy_later(void *to, const void *from, int bytes)
{
    fiber *self = (fiber *)current;
    uint32_t asked = races::begin_copy(to, from, bytes);
    self->copies.push_back({to, from, bytes, self->group, asked});
}

void copy_commit()
{
    ((fiber *)current)->group++;
}

void copy_wait(int pending)
{
    fiber *self = (fiber *)current;
    auto &copies = self->copies;
    while (!copies.empty() && copies.front().group < self->group - pending) {
        const copy &c = copies.front();
        races::end_copy(c.to, c.from, c.bytes, c.asked);
        memcpy(c.to, c.from, c.bytes);
        copies.erase(copies.begin());
    }
}

void fence()
{
    races::fence();
}

/* Of an access that AddressSanitizer doesn't see itself, where it is: it looks at both ends. */
void check_bounds(const void *p, size_t bytes)
{
#if defined __SANITIZE_ADDRESS__
    (void)*(const volatile char *)p;
    (void)((const volatile char *)p)[bytes - 1];
#else
    (void)p, (void)bytes;
#endif
}

int atomic_add(int *p, int x)
{
    races::atomic(p);
    int before = *p;
    *p += x;
    return before;
}

} // namespace emulator

/* ---- memory: an arena that only what runs on the device may touch ------------------------- */

namespace
{

const size_t ARENA = (size_t)1 << 29, GAP = 256;
unsigned char *arena;
size_t arena_used;              /* to its highest byte in use */
std::map<size_t, size_t> taken; /* offset, bytes */
size_t allocated, memory_size = (size_t)256 << 20;
int n_devices = 1;
size_t shared_limit; /* of the device as it was described last */
long launches, countdown = -1;
cudaError_t last_error = cudaSuccess;

cudaError_t fail(cudaError_t error)
{
    return last_error = error;
}

void open_arena()
{
    if (arena != NULL)
        return;
    arena = (unsigned char *)mmap(NULL, ARENA, PROT_NONE,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (arena == MAP_FAILED)
        give_up("no memory", "a device");
    FORBID(arena, ARENA);
    races::watch_arena(arena, ARENA);
}

/* While it runs, the device's memory can be touched. */
void on_device(const std::function<void()> &work)
{
    std::lock_guard<std::mutex> lock(device);
    mprotect(arena, arena_used, PROT_READ | PROT_WRITE);
    work();
    mprotect(arena, arena_used, PROT_NONE);
}

size_t round_up(size_t n)
{
    return (n + GAP - 1) / GAP * GAP;
}

/* What lies beyond the last piece taken is given back. */
void use_arena()
{
    size_t end = taken.empty() ? 0 : taken.rbegin()->first + taken.rbegin()->second;
    end = (end + 4095) / 4096 * 4096;
    if (end < arena_used)
        madvise(arena + end, arena_used - end, MADV_DONTNEED);
    arena_used = end;
}

} // namespace

struct cuda_graph {
    std::vector<std::function<void()>> work;
};

struct cuda_stream {
    std::vector<std::function<void()>> queue;
    cuda_graph *capture;
    cudaError_t failed;
};

struct cuda_event {
    double time;
};

namespace
{

std::vector<cuda_stream *> streams;

void push_kernel(cudaStream_t stream, std::function<void()> work)
{
    (stream->capture != NULL ? stream->capture->work : stream->queue).push_back(std::move(work));
}

void push(cudaStream_t stream, std::function<void()> work)
{
    push_kernel(stream, [=]() {
        races::other_work();
        work();
    });
}

cudaError_t flush(cudaStream_t stream)
{
    std::vector<std::function<void()>> queue;
    queue.swap(stream->queue);
    if (queue.empty())
        return stream->failed;
    open_arena();
    on_device([&]() {
        races::other_work();
        for (auto &work : queue)
            if (stream->failed == cudaSuccess)
                work();
    });
    return stream->failed;
}

} // namespace

void emulator::enqueue(cudaStream_t stream, const char *kernel, dim3 grid, int threads,
                       size_t shared_bytes, std::function<void()> thread_body)
{
    launches++;
    if (threads < 1 || threads > MAX_THREADS || threads % 32 != 0 || grid.x == 0 || grid.y == 0 ||
        grid.z == 0 || grid.y > 65535 || grid.z > 65535 || shared_bytes > shared_limit)
        give_up("a launch that no device takes", kernel);
    if (countdown >= 0 && countdown-- == 0) {
        /* As an access out of bounds: nobody hears of it before the wait. */
        push(stream, [=]() { stream->failed = cudaErrorIllegalAddress; });
        return;
    }
    push_kernel(stream, [=]() { run_launch(kernel, grid, threads, shared_bytes, thread_body); });
}

void emulator_set_seed(unsigned s)
{
    seed = s;
}
void emulator_set_devices(int n)
{
    n_devices = n;
}
void emulator_set_memory(size_t bytes)
{
    memory_size = bytes;
}
void emulator_fail_launch(long after)
{
    countdown = after;
}
long emulator_launches(void)
{
    return launches;
}
size_t emulator_allocated(void)
{
    return allocated;
}

/* ---- the runtime ------------------------------------------------------------------------- */

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 0;
    if (n_devices < 0)
        return fail(cudaErrorInsufficientDriver);
    if (n_devices == 0)
        return fail(cudaErrorNoDevice);
    *count = n_devices;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int number)
{
    return number >= 0 && number < n_devices ? cudaSuccess : fail(cudaErrorInvalidDevice);
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int)
{
    /* Those of compute capability 8.6, 8.0 and 9.0 by turns, whose answers are to be one. */
    static const size_t limits[] = {99 * 1024, 163 * 1024, 227 * 1024};
    static int next;
    shared_limit = limits[next++ % 3];
    *properties = {"emulated", 9, 0, 4, shared_limit};
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    *total = memory_size;
    *free_bytes = memory_size > allocated ? memory_size - allocated : 0;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = n_devices < 0 ? 0 : 13000;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = 13000;
    return cudaSuccess;
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}

const char *cudaGetErrorString(cudaError_t error)
{
    switch (error) {
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorIllegalAddress:
        return "an illegal memory access was encountered";
    case cudaErrorNoDevice:
        return "no CUDA-capable device is detected";
    case cudaErrorInsufficientDriver:
        return "CUDA driver version is insufficient for CUDA runtime version";
    default:
        return error == cudaSuccess ? "no error" : "an error of the emulator";
    }
}

cudaError_t cudaMalloc(void **memory, size_t bytes)
{
    open_arena();
    size_t at = GAP;
    for (auto &piece : taken) {
        if (piece.first >= at + bytes + GAP)
            break;
        at = piece.first + round_up(piece.second) + GAP;
    }
    *memory = NULL;
    if (allocated + bytes > memory_size || at + bytes + GAP > ARENA)
        return fail(cudaErrorMemoryAllocation);
    taken[at] = bytes;
    allocated += bytes;
    ALLOW(arena + at, bytes);
    use_arena();
    *memory = arena + at;
    on_device([&]() { memset(arena + at, 0xff, bytes); });
    return cudaSuccess;
}

cudaError_t cudaFree(void *memory)
{
    if (memory == NULL)
        return cudaSuccess;
    for (auto *stream : streams)
        flush(stream);
    auto piece = taken.find((size_t)((unsigned char *)memory - arena));
    if (piece == taken.end())
        give_up("what was never allocated is freed", "cudaFree");
    FORBID(memory, piece->second);
    allocated -= piece->second;
    taken.erase(piece);
    use_arena();
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **memory, size_t bytes)
{
    *memory = malloc(bytes);
    return *memory != NULL ? cudaSuccess : fail(cudaErrorMemoryAllocation);
}

cudaError_t cudaFreeHost(void *memory)
{
    free(memory);
    return cudaSuccess;
}

static void *registered; /* one at a time is what there is need of */

cudaError_t cudaHostRegister(void *memory, size_t, unsigned)
{
    if (registered != NULL)
        give_up("a second piece of memory", "cudaHostRegister");
    registered = memory;
    return cudaSuccess;
}

cudaError_t cudaHostUnregister(void *memory)
{
    if (memory == NULL || memory != registered)
        give_up("what was never registered", "cudaHostUnregister");
    registered = NULL;
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    return cudaMemcpy2DAsync(to, bytes, from, bytes, bytes, 1, kind, stream);
}

static bool on_arena(const void *p)
{
    return p >= arena && p < arena + ARENA;
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch,
                              size_t width, size_t height, enum cudaMemcpyKind kind,
                              cudaStream_t stream)
{
    if (on_arena(to) != (kind != cudaMemcpyDeviceToHost) ||
        on_arena(from) != (kind != cudaMemcpyHostToDevice))
        give_up("a copy in the wrong direction", "cudaMemcpyAsync");
    push(stream, [=]() {
        for (size_t i = 0; i < height; i++)
            memcpy((char *)to + i * to_pitch, (const char *)from + i * from_pitch, width);
    });
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *memory, int value, size_t bytes, cudaStream_t stream)
{
    push(stream, [=]() { memset(memory, value, bytes); });
    return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *stream)
{
    *stream = new cuda_stream{{}, NULL, cudaSuccess};
    streams.push_back(*stream);
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    flush(stream);
    streams.erase(std::find(streams.begin(), streams.end(), stream));
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    return flush(stream);
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, void (*fn)(void *arg), void *arg)
{
    push(stream, [=]() { fn(arg); });
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode)
{
    stream->capture = new cuda_graph;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    *graph = stream->capture;
    stream->capture = NULL;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long)
{
    *exec = new cuda_graph(*graph);
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    stream->queue.insert(stream->queue.end(), exec->work.begin(), exec->work.end());
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    delete exec;
    return cudaSuccess;
}

static double now()
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    *event = new cuda_event{0};
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    push(stream, [=]() { event->time = now(); });
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t)
{
    for (auto *stream : streams)
        flush(stream);
    return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end)
{
    *milliseconds = (float)(end->time - start->time);
    return cudaSuccess;
}
