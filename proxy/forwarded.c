/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/forwarded.h"

bool forwarded_is_by(struct bytes field, struct bytes id)
{
    struct bytes element, pair, name, value;

    while (field.len > 0) {
        (void)bytes_split(field, ',', &element, &field);
        while (element.len > 0) {
            (void)bytes_split(element, ';', &pair, &element);
            (void)bytes_split(bytes_trim(pair, " \t"), '=', &name, &value);
            if (bytes_eq_nocase(name, BYTES("by")) && bytes_eq(bytes_trim(value, "\""), id)) {
                return true;
            }
        }
    }
    return false;
}
