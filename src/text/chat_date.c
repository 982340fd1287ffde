/* SPDX-License-Identifier: MIT */
/* Dates as the templates write them, "26 Jul 2024". */
#include "text/chat.h"

#include <string.h>

static bool is_date(const char *date)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

    if (strlen(date) != 11 || date[2] != ' ' || date[6] != ' ')
        return false;
    for (int i = 0; i < 11; i++)
        if ((i < 2 || i > 6) && (date[i] < '0' || date[i] > '9'))
            return false;
    int day = (date[0] - '0') * 10 + date[1] - '0';
    int year =
        (date[7] - '0') * 1000 + (date[8] - '0') * 100 + (date[9] - '0') * 10 + date[10] - '0';

    int month = 0;
    while (month < 12 && strncmp(months + 3 * month, date + 3, 3) != 0)
        month++;
    if (month == 12 || day == 0 || year == 0)
        return false;
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return day <= days[month] + (month == 1 && leap);
}

int chat_date_check(const char *date, struct llama3_error *err)
{
    if (is_date(date))
        return 0;
    return error_set(err, LLAMA3_EINPUT, "date: expected one like \"26 Jul 2024\", found \"%.40s\"",
                     date);
}
