/* SPDX-License-Identifier: Apache-2.0 */
/* Finding a GPU by its UUID, and being in its context. */
#include "kernels/cuda/gpu.h"

#include <errno.h>
#include <stdio.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "kernels/cuda/gpu-internal.h"

int syn_gpu_enter(const struct syn_gpu *gpu, struct syn_gpu_scope *ret)
{
	const struct syn_cuda_api *api = gpu->api;
	CUresult result = api->cuCtxPushCurrent_v2(gpu->context);

	if (result)
		return syn_cuda_errno(api, result, "cuCtxPushCurrent");
	ret->gpu = gpu;
	ret->mode = CU_STREAM_CAPTURE_MODE_RELAXED;
	(void)api->cuThreadExchangeStreamCaptureMode(&ret->mode);
	return 0;
}

void syn_gpu_leave(struct syn_gpu_scope *scope)
{
	const struct syn_cuda_api *api = scope->gpu->api;
	CUcontext ours;

	(void)api->cuThreadExchangeStreamCaptureMode(&scope->mode);
	(void)api->cuCtxPopCurrent_v2(&ours);
}

/* ---- names -------------------------------------------------------------- */

static bool uuid_has_dash(unsigned int byte)
{
	return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

void syn_gpu_uuid_format(const uint8_t *uuid, char ret[41])
{
	char *to = ret + sprintf(ret, "GPU-");

	for (unsigned int i = 0; i < SYN_GPU_UUID_BYTES; i++)
		to += sprintf(to, uuid_has_dash(i) ? "-%02x" : "%02x", uuid[i]);
}

int syn_gpu_uuid_parse(const char *text, uint8_t ret[SYN_GPU_UUID_BYTES])
{
	uint8_t uuid[SYN_GPU_UUID_BYTES];
	char again[41];

	if (strlen(text) != sizeof(again) - 1)
		return -EINVAL;
	for (unsigned int i = 0, at = 4; i < SYN_GPU_UUID_BYTES; i++, at += 2) {
		at += uuid_has_dash(i);
		if (sscanf(text + at, "%2hhx", &uuid[i]) != 1)
			return -EINVAL;
	}
	/* What sscanf() is lenient with does not come back the same. */
	syn_gpu_uuid_format(uuid, again);
	if (strcmp(text, again))
		return -EINVAL;
	memcpy(ret, uuid, sizeof(uuid));
	return 0;
}

/* ---- what it is --------------------------------------------------------- */

static int attribute(const struct syn_gpu *gpu, CUdevice_attribute what)
{
	int value = -1;

	if (gpu->api->cuDeviceGetAttribute(&value, what, gpu->device))
		return -1;
	return value;
}

/* The driver tells it in a file only; without one the number is not known. */
static int minor_of(const char *pci)
{
	char path[64];
	char line[128];
	FILE *file;
	int minor = -1;

	(void)snprintf(path, sizeof(path),
		       "/proc/driver/nvidia/gpus/%s/information", pci);
	file = fopen(path, "re");
	if (!file)
		return -1;
	while (minor < 0 && fgets(line, sizeof(line), file))
		(void)sscanf(line, "Device Minor: %d", &minor);
	(void)fclose(file);
	return minor;
}

static void pci_lower(char *pci)
{
	for (; *pci; pci++)
		if (*pci >= 'A' && *pci <= 'F')
			*pci = (char)(*pci - 'A' + 'a');
}

static bool host_vmm_of(const struct syn_gpu *gpu)
{
	return attribute(
		       gpu,
		       CU_DEVICE_ATTRIBUTE_HOST_NUMA_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED) ==
		       1 &&
	       attribute(
		       gpu,
		       CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED) ==
		       1;
}

static int info_read(struct syn_gpu *gpu)
{
	const struct syn_cuda_api *api = gpu->api;
	struct syn_gpu_info *info = &gpu->info;
	size_t bytes;
	CUresult result;
	CUuuid uuid;

	result = api->cuDeviceGetUuid_v2(&uuid, gpu->device);
	if (!result)
		result = api->cuDeviceGetName(info->name, sizeof(info->name),
					      gpu->device);
	if (!result)
		result = api->cuDeviceTotalMem_v2(&bytes, gpu->device);
	if (!result)
		result = api->cuDeviceGetPCIBusId(info->pci, sizeof(info->pci),
						  gpu->device);
	if (result)
		return syn_cuda_errno(api, result, "a device's attributes");
	memcpy(info->uuid, uuid.bytes, sizeof(info->uuid));
	pci_lower(info->pci);
	info->bytes = bytes;
	info->minor = minor_of(info->pci);
	info->driver = api->version;
	info->node = attribute(gpu, CU_DEVICE_ATTRIBUTE_HOST_NUMA_ID);
	info->sms = (unsigned int)attribute(
		gpu, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
	info->arch =
		10 * attribute(gpu,
			       CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) +
		attribute(gpu, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
	info->host_vmm = host_vmm_of(gpu);
	return 0;
}

/* ---- open and close ----------------------------------------------------- */

static int device_find(struct syn_gpu *gpu, const uint8_t *uuid)
{
	const struct syn_cuda_api *api = gpu->api;
	int nr = 0;
	int r;

	r = syn_cuda_errno(api, api->cuDeviceGetCount(&nr), "cuDeviceGetCount");
	for (int i = 0; i < nr && !r; i++) {
		r = syn_cuda_errno(api, api->cuDeviceGet(&gpu->device, i),
				   "cuDeviceGet");
		if (!r)
			r = info_read(gpu);
		if (!r && (!uuid || !memcmp(uuid, gpu->info.uuid,
					    sizeof(gpu->info.uuid))))
			return 0;
	}
	return r ? r : -ENODEV;
}

/* An engine's kernels and streams are of its context; ours must be, too. */
static bool context_is_callers(struct syn_gpu *gpu)
{
	const struct syn_cuda_api *api = gpu->api;
	CUcontext context = NULL;
	CUdevice device;

	if (api->cuCtxGetCurrent(&context) || !context ||
	    api->cuCtxGetDevice(&device) || device != gpu->device)
		return false;
	gpu->context = context;
	return true;
}

static int context_get(struct syn_gpu *gpu)
{
	const struct syn_cuda_api *api = gpu->api;
	CUresult result;

	if (context_is_callers(gpu))
		return 0;
	if (syn_fault())
		return -ENOMEM;
	result = api->cuDevicePrimaryCtxRetain(&gpu->context, gpu->device);
	gpu->primary = !result;
	return syn_cuda_errno(api, result, "cuDevicePrimaryCtxRetain");
}

int syn_gpu_open(struct syn_gpu **ret, const uint8_t *uuid)
{
	struct syn_gpu *gpu = syn_alloc(1, sizeof(*gpu));
	int r;

	if (!gpu)
		return -ENOMEM;
	r = syn_cuda_load(&gpu->api);
	if (!r)
		r = device_find(gpu, uuid);
	if (!r)
		r = context_get(gpu);
	if (r) {
		free(gpu);
		return r;
	}
	*ret = gpu;
	return 0;
}

void syn_gpu_close(struct syn_gpu *gpu)
{
	if (!gpu)
		return;
	if (gpu->primary)
		(void)gpu->api->cuDevicePrimaryCtxRelease_v2(gpu->device);
	free(gpu);
}

const struct syn_gpu_info *syn_gpu_info(const struct syn_gpu *gpu)
{
	return &gpu->info;
}
