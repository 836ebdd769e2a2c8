/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Weight files in the safetensors format: eight bytes of header length, a JSON
 * header, tensor bytes.  Nothing in the file is trusted: every offset, shape
 * and type is checked before a tensor is handed out.
 */
#ifndef SYN_TOOLS_INFER_SAFETENSORS_H
#define SYN_TOOLS_INFER_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

struct syn_safetensors;

/*
 * -EBADMSG: not such a file.  Errors are logged with their reason.  The
 * file must not change while it is open.
 */
int syn_safetensors_open(const char *path, struct syn_safetensors **ret);
/* Takes NULL, returns NULL. */
struct syn_safetensors *syn_safetensors_close(struct syn_safetensors *file);

/* 128 bits of a hash of the whole file. */
void syn_safetensors_identity(const struct syn_safetensors *file,
			      uint64_t ret[2]);

/* A string of the header's __metadata__, or NULL; valid until close. */
const char *syn_safetensors_meta(const struct syn_safetensors *file,
				 const char *key);

/*
 * The fp16 values of tensor @name, which must have exactly the shape
 * [@rows][@columns], or [@columns] when @rows is 0.  -ENOENT, -EBADMSG.
 */
int syn_safetensors_tensor(const struct syn_safetensors *file, const char *name,
			   unsigned int rows, unsigned int columns,
			   const uint16_t **ret);

#endif
