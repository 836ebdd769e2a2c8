/* SPDX-License-Identifier: Apache-2.0 */
/* Weight files in the safetensors format, mapped read only. */
#include "tools/infer/safetensors.h"

#include <fcntl.h>
#include <json-c/json.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "core/base/base.h"
#include "core/base/fault.h"
#include "core/base/log.h"

#define HEADER_MAX (16u << 20) /* bytes of JSON */
#define DEPTH_MAX  8	       /* of its nesting */

struct syn_safetensors {
	char *path;
	unsigned char *map;
	size_t bytes;
	const unsigned char *data;
	size_t data_bytes;
	struct json_object *header;
};

static int file_bad(const struct syn_safetensors *file, const char *name,
		    const char *why)
{
	syn_error("%s: %s%s%s", file->path, name, *name ? ": " : "", why);
	return -EBADMSG;
}

static int file_map(struct syn_safetensors *file)
{
	syn_cleanup(syn_closep) int fd = -1;
	struct stat st;
	void *map;

	fd = open(file->path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return file_bad(file, "", "not a regular file");
	if (st.st_size < 8)
		return file_bad(file, "", "too short for a header");
	map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	file->map = map;
	file->bytes = (size_t)st.st_size;
	return 0;
}

static uint64_t little_endian(const unsigned char *p)
{
	uint64_t x = 0;

	for (int i = 7; i >= 0; i--)
		x = x << 8 | p[i];
	return x;
}

static int file_parse(struct syn_safetensors *file)
{
	uint64_t length = little_endian(file->map);
	struct json_tokener *tokener;
	enum json_tokener_error error;

	if (length > HEADER_MAX || length > file->bytes - 8)
		return file_bad(file, "", "header is longer than the file");
	tokener = syn_fault() ? NULL : json_tokener_new_ex(DEPTH_MAX);
	if (!tokener)
		return -ENOMEM;
	file->header = json_tokener_parse_ex(
		tokener, (const char *)file->map + 8, (int)length);
	error = json_tokener_get_error(tokener);
	json_tokener_free(tokener);
	if (error != json_tokener_success)
		return file_bad(file, "header", json_tokener_error_desc(error));
	if (!json_object_is_type(file->header, json_type_object))
		return file_bad(file, "header", "not a JSON object");
	file->data = file->map + 8 + length;
	file->data_bytes = file->bytes - 8 - length;
	return 0;
}

int syn_safetensors_open(const char *path, struct syn_safetensors **ret)
{
	struct syn_safetensors *file = syn_alloc(1, sizeof(*file));
	int r = -ENOMEM;

	if (!file)
		return r;
	file->path = strdup(path);
	if (!file->path)
		goto close_file;
	r = file_map(file);
	if (r == 0)
		r = file_parse(file);
	if (r)
		goto close_file;
	*ret = file;
	return 0;

close_file:
	if (r != -EBADMSG)
		syn_error("%s: %s", path, strerror(-r));
	syn_safetensors_close(file);
	return r;
}

struct syn_safetensors *syn_safetensors_close(struct syn_safetensors *file)
{
	if (!file)
		return NULL;
	json_object_put(file->header);
	if (file->map)
		(void)munmap(file->map, file->bytes);
	free(file->path);
	free(file);
	return NULL;
}

void syn_safetensors_identity(const struct syn_safetensors *file,
			      uint64_t ret[2])
{
	XXH128_hash_t hash = XXH3_128bits(file->map, file->bytes);

	ret[0] = hash.low64;
	ret[1] = hash.high64;
}

static struct json_object *member(struct json_object *object, const char *key,
				  enum json_type type)
{
	struct json_object *value;

	if (!json_object_object_get_ex(object, key, &value) ||
	    !json_object_is_type(value, type))
		return NULL;
	return value;
}

const char *syn_safetensors_meta(const struct syn_safetensors *file,
				 const char *key)
{
	struct json_object *meta =
		member(file->header, "__metadata__", json_type_object);
	struct json_object *value =
		meta ? member(meta, key, json_type_string) : NULL;

	return value ? json_object_get_string(value) : NULL;
}

/* Element @i of an array of integers that are not negative, or UINT64_MAX. */
static uint64_t number_at(struct json_object *array, size_t i)
{
	struct json_object *value =
		array ? json_object_array_get_idx(array, i) : NULL;
	int64_t number;

	if (!json_object_is_type(value, json_type_int))
		return UINT64_MAX;
	number = json_object_get_int64(value);
	return number < 0 ? UINT64_MAX : (uint64_t)number;
}

static bool shape_is(struct json_object *shape, unsigned int rows,
		     unsigned int columns)
{
	size_t nr = shape ? json_object_array_length(shape) : 0;

	if (!rows)
		return nr == 1 && number_at(shape, 0) == columns;
	return nr == 2 && number_at(shape, 0) == rows &&
	       number_at(shape, 1) == columns;
}

int syn_safetensors_tensor(const struct syn_safetensors *file, const char *name,
			   unsigned int rows, unsigned int columns,
			   const uint16_t **ret)
{
	uint64_t bytes = 2ull * (rows ? rows : 1) * columns;
	struct json_object *entry;
	struct json_object *value;
	uint64_t first;
	uint64_t end;

	entry = member(file->header, name, json_type_object);
	if (!entry) {
		syn_error("%s: %s: no such tensor", file->path, name);
		return -ENOENT;
	}
	value = member(entry, "dtype", json_type_string);
	if (!value || strcmp(json_object_get_string(value), "F16") != 0)
		return file_bad(file, name, "type is not F16");
	if (!shape_is(member(entry, "shape", json_type_array), rows, columns))
		return file_bad(file, name, "shape does not fit the metadata");
	value = member(entry, "data_offsets", json_type_array);
	first = number_at(value, 0);
	end = number_at(value, 1);
	if (first > end || end > file->data_bytes || end - first != bytes)
		return file_bad(file, name, "offsets do not fit shape or file");
	if ((uintptr_t)(file->data + first) % sizeof(uint16_t))
		return file_bad(file, name, "data is not aligned");
	*ret = (const uint16_t *)(const void *)(file->data + first);
	return 0;
}
