/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CUDA driver, loaded when it is needed: libcuda.so.1, all required
 * symbols or none.
 *
 * Besides those of this folder, only tests and benchmarks may include this.
 * Entry points carry the version that is called, so that a newer cuda.h cannot
 * change what they mean.  The oldest driver that has all of them is 550 (CUDA
 * 12.4), the first to export host memory of cuMemCreate() as a descriptor.
 */
#ifndef SYN_KERNELS_CUDA_API_H
#define SYN_KERNELS_CUDA_API_H

#include <cuda.h>

/* Of CUDA 12.4. */
#define SYN_CUDA_DRIVER_MIN 12040

#define SYN_CUDA_REQUIRED(X)                                                   \
	X(cuInit)                                                              \
	X(cuDriverGetVersion)                                                  \
	X(cuGetErrorName)                                                      \
	X(cuDeviceGetCount)                                                    \
	X(cuDeviceGet)                                                         \
	X(cuDeviceGetName)                                                     \
	X(cuDeviceGetUuid_v2)                                                  \
	X(cuDeviceGetAttribute)                                                \
	X(cuDeviceTotalMem_v2)                                                 \
	X(cuDeviceGetPCIBusId)                                                 \
	X(cuDevicePrimaryCtxRetain)                                            \
	X(cuDevicePrimaryCtxRelease_v2)                                        \
	X(cuCtxGetCurrent)                                                     \
	X(cuCtxGetDevice)                                                      \
	X(cuCtxPushCurrent_v2)                                                 \
	X(cuCtxPopCurrent_v2)                                                  \
	X(cuCtxGetStreamPriorityRange)                                         \
	X(cuThreadExchangeStreamCaptureMode)                                   \
	X(cuMemGetInfo_v2)                                                     \
	X(cuMemAddressReserve)                                                 \
	X(cuMemAddressFree)                                                    \
	X(cuMemCreate)                                                         \
	X(cuMemRelease)                                                        \
	X(cuMemMap)                                                            \
	X(cuMemUnmap)                                                          \
	X(cuMemSetAccess)                                                      \
	X(cuMemExportToShareableHandle)                                        \
	X(cuMemImportFromShareableHandle)                                      \
	X(cuMemAlloc_v2)                                                       \
	X(cuMemFree_v2)                                                        \
	X(cuMemHostAlloc)                                                      \
	X(cuMemFreeHost)                                                       \
	X(cuMemHostRegister_v2)                                                \
	X(cuMemHostUnregister)                                                 \
	X(cuMemHostGetDevicePointer_v2)                                        \
	X(cuMemcpyAsync)                                                       \
	X(cuMemcpy2DAsync_v2)                                                  \
	X(cuMemsetD32Async)                                                    \
	X(cuStreamCreateWithPriority)                                          \
	X(cuStreamDestroy_v2)                                                  \
	X(cuStreamSynchronize)                                                 \
	X(cuStreamWaitEvent)                                                   \
	X(cuStreamIsCapturing)                                                 \
	X(cuStreamWriteValue64_v2)                                             \
	X(cuEventCreate)                                                       \
	X(cuEventDestroy_v2)                                                   \
	X(cuEventRecord)                                                       \
	X(cuEventQuery)                                                        \
	X(cuEventSynchronize)                                                  \
	X(cuModuleLoadData)                                                    \
	X(cuModuleUnload)                                                      \
	X(cuModuleGetFunction)                                                 \
	X(cuFuncSetAttribute)                                                  \
	X(cuLaunchKernel)

/**
 * struct syn_cuda_api - the driver's entry points, each under its own name.
 * @dl:		the library.
 * @version:	of the driver, as in 13000.
 * @batch:	cuMemcpyBatchAsync_v2, of CUDA 13; NULL: the driver is older.
 */
struct syn_cuda_api {
	void *dl;
	int version;
	CUresult (*batch)(CUdeviceptr *dsts, CUdeviceptr *srcs, size_t *sizes,
			  size_t count, CUmemcpyAttributes *attrs,
			  size_t *attrs_at, size_t nr_attrs, CUstream stream);
#define X(name) __typeof__(name) *name;
	SYN_CUDA_REQUIRED(X)
#undef X
};

/*
 * The driver, initialised, once in a process; it stays loaded.  -ENODEV: there
 * is none, or no device.  -ENOSYS: it is too old, or lacks a symbol.  Any
 * thread.
 */
int syn_cuda_load(const struct syn_cuda_api **ret);

/*
 * -errno of what a call answered, said in the log for people who debug.
 * -ENOMEM, -EOPNOTSUPP, -ENODEV, -EINVAL, -EPERM; everything else is -EIO.
 */
int syn_cuda_errno(const struct syn_cuda_api *api, CUresult result,
		   const char *what);

#endif
