/* SPDX-License-Identifier: MIT */
#include "base/cgroup.h"

#include <stdio.h>
#include <string.h>

/* path: within the hierarchy mounted there; it is cut from its end. In a container it may lie
 * outside the visible tree. The visible root is then the process's own group, and is always
 * visited. */
static void walk_up(const char *mount, char *path, bool v2,
                    void (*fn)(void *arg, const char *folder, bool v2), void *arg)
{
    for (;;) {
        char folder[4300];
        snprintf(folder, sizeof folder, "%s%s", mount, path);
        fn(arg, folder, v2);
        char *slash = strrchr(path, '/');
        if (slash == NULL)
            break;
        *slash = '\0';
    }
}

/* Version 2 has one line "0::/path", version 1 one for each controller, "4:memory:/path". */
void cgroup_each(const char *controller, void (*fn)(void *arg, const char *folder, bool v2),
                 void *arg)
{
    FILE *file = fopen("/proc/self/cgroup", "re");
    char line[4096], name[64], mount[96];
    if (file == NULL)
        return;
    snprintf(name, sizeof name, ":%s:", controller);
    while (fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        bool v2 = strncmp(line, "0::", 3) == 0;
        char *at = strstr(line, name);
        snprintf(mount, sizeof mount, "/sys/fs/cgroup%s%s", v2 ? "" : "/", v2 ? "" : controller);
        if (v2)
            walk_up(mount, line + 3, v2, fn, arg);
        else if (at != NULL)
            walk_up(mount, at + strlen(name), v2, fn, arg);
    }
    fclose(file);
}
