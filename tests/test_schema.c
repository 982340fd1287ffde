/* SPDX-License-Identifier: MIT */
/*
 * test_schema: which values a schema allows, by tests/member.h, which follows the shapes; what is
 * said of shapes in schema.h; and which schemas are refused, with which words.
 */
#include <check.h>
#include <stdlib.h>
#include <time.h>

#include "member.h"
#include "run.h"

static struct llama3_error err;
static struct regexes *regexes;
static struct schemas *schemas;

static json_t *parse(const char *text)
{
    json_t *json = json_parse_value(text, strlen(text), "test", &err);
    ck_assert_msg(json != NULL, "%s: %s", text, err.message);
    return json;
}

static bool open_schema(const char *text)
{
    json_t *root = parse(text);
    regexes = regexes_open(64 << 20, &err);
    ck_assert_ptr_nonnull(regexes);
    schemas = schemas_open(regexes, root, &err);
    json_decref(root);
    return schemas != NULL;
}

static void close_schema(void)
{
    schemas_close(schemas);
    regexes_close(regexes);
    schemas = NULL;
}

/* Values that are told apart by a ' ' at the top level; valid ones first, then "|", then others. */
static const struct verdicts {
    const char *schema, *valid, *invalid; /* JSON, arrays of instances */
} verdicts[] = {
    /* types */
    {"true", "[null,true,false,0,-1.5,\"\",\"x\",[],[[1]],{},{\"a\":[]}]", "[]"},
    {"{}", "[null,true,1,\"x\",[],{}]", "[]"},
    {"false", "[]", "[null,true,1,\"x\",[],{}]"},
    {"{'type':'null'}", "[null]", "[false,0,\"\",[],{}]"},
    {"{'type':'boolean'}", "[true,false]", "[null,0,\"true\"]"},
    {"{'type':['string','null']}", "[null,\"a\"]", "[1,[],{}]"},
    {"{'type':'integer'}", "[0,-7,12345678901234]", "[1.5,\"1\",null]"},
    {"{'type':'number'}", "[0,-7,1.5,1e3]", "[\"1\",null]"},
    {"{'not':{'type':'integer'}}", "[1.5,\"1\",null]", "[0,7]"},
    {"{'type':'number','not':{'type':'integer'}}", "[1.5,-0.25]", "[0,7,\"\"]"},
    /* numbers */
    {"{'minimum':3}", "[3,3.5,\"x\",null]", "[2,2.99,-5]"},
    {"{'maximum':-3}", "[-3,-3.5]", "[-2,0]"},
    {"{'exclusiveMinimum':3,'exclusiveMaximum':4}", "[3.5,3.01]", "[3,4]"},
    {"{'$schema':'http://json-schema.org/draft-04/schema#','minimum':3,'exclusiveMinimum':true}",
     "[4,3.5]", "[3,2]"},
    {"{'type':'integer','minimum':-2,'maximum':12}", "[-2,0,9,12]", "[-3,13]"},
    {"{'minimum':1,'exclusiveMinimum':1}", "[2]", "[1,0]"},
    {"{'multipleOf':3}", "[0,3,-6,999]", "[1,4,3.5]"},
    {"{'multipleOf':0.25}", "[0.5,1,0.75]", "[0.3,0.2]"},
    {"{'not':{'minimum':3}}", "[2,-1]", "[3,\"x\",null]"},
    {"{'type':'number','not':{'multipleOf':2}}", "[1,3,2.5]", "[2,0,\"x\"]"},
    {"{'type':'integer','not':{'enum':[1,2]}}", "[0,3,12]", "[1,2]"},
    /* strings; characters, not bytes */
    {"{'minLength':2,'maxLength':3}", "[\"ab\",\"abc\",\"\\u00e9\\u00e9\",1]", "[\"a\",\"abcd\"]"},
    {"{'maxLength':0}", "[\"\"]", "[\"a\"]"},
    {"{'minLength':3,'maxLength':2}", "[1,null]", "[\"\",\"abc\"]"},
    {"{'pattern':'b'}", "[\"b\",\"abc\",1]", "[\"\",\"ac\"]"},
    {"{'pattern':'^[a-c]+$','minLength':2}", "[\"ab\",\"ccc\"]", "[\"a\",\"abd\"]"},
    {"{'type':'string','not':{'pattern':'^a'}}", "[\"\",\"ba\"]", "[\"a\",\"ab\",1]"},
    {"{'format':'date'}", "[\"2024-02-29\",3]", "[\"2023-02-29\",\"x\"]"},
    {"{'type':'string','format':'no such format'}", "[\"x\"]", "[1]"},
    {"{'type':'integer','format':'int32'}", "[5000000000]", "[]"},
    /* constants */
    {"{'const':'a'}", "[\"a\"]", "[\"b\",\"\",null]"},
    {"{'const':1.5}", "[1.5]", "[1,2,\"1.5\"]"},
    {"{'enum':[1,'x',null,true,[1,{}],{'a':2}]}", "[1,\"x\",null,true,[1,{}],{\"a\":2}]",
     "[2,\"y\",false,[],[1],[1,{},1],{},{\"a\":3},{\"a\":2,\"b\":1}]"},
    {"{'not':{'enum':[1,'x',null,[1,{}],{'a':2}]}}",
     "[2,\"y\",false,true,[],[1],[1,{},1],[1,{\"b\":1}],{},{\"a\":3},{\"a\":2,\"b\":1}]",
     "[1,\"x\",null,[1,{}],{\"a\":2}]"},
    {"{'enum':[]}", "[]", "[1,null,{}]"},
    {"{'enum':['a','b','c'],'pattern':'[bc]'}", "[\"b\",\"c\"]", "[\"a\"]"},
    /* arrays */
    {"{'items':{'type':'integer'}}", "[[],[1,2],\"x\"]", "[[\"a\"],[1,\"a\"]]"},
    {"{'prefixItems':[{'type':'integer'},{'type':'string'}]}", "[[],[1],[1,\"a\"],[1,\"a\",null]]",
     "[[\"a\"],[1,2]]"},
    {"{'prefixItems':[true],'items':false}", "[[],[1]]", "[[1,2]]"},
    {"{'$schema':'http://json-schema.org/draft-07/schema#','items':[{'type':'integer'}],"
     "'additionalItems':{'type':'string'}}",
     "[[],[1],[1,\"a\",\"b\"]]", "[[\"a\"],[1,2]]"},
    {"{'minItems':1,'maxItems':2}", "[[1],[1,2],{}]", "[[],[1,2,3]]"},
    {"{'type':'array','not':{'items':{'type':'integer'}}}", "[[\"a\"],[1,\"a\",2]]",
     "[[],[1],[1,2]]"},
    {"{'type':'array','not':{'prefixItems':[{'type':'integer'}],'items':{'type':'string'}}}",
     "[[\"a\"],[1,2],[\"a\",\"b\"],[1,\"a\",2]]", "[[],[1],[1,\"a\"]]"},
    {"{'type':'array','not':{'minItems':2,'maxItems':3}}", "[[],[1],[1,2,3,4]]", "[[1,2],[1,2,3]]"},
    {"{'items':{'type':'integer'},'uniqueItems':true}", "[[],[1,2]]", "[[1,1],[\"a\"]]"},
    {"{'items':{'enum':['a','b']},'uniqueItems':true}", "[[],[\"b\",\"a\"]]",
     "[[\"a\",\"a\"],[\"c\"]]"},
    {"{'contains':{'type':'integer'}}", "[[1],[\"a\",1,null]]", "[[],[\"a\"]]"},
    {"{'contains':{'type':'integer'},'minContains':2,'maxContains':3}",
     "[[1,2],[\"a\",1,null,3,4]]", "[[],[1],[1,2,3,4]]"},
    {"{'contains':{'const':1},'minContains':0}", "[[],[2]]", "[]"},
    {"{'type':'array','not':{'contains':{'type':'integer'}}}", "[[],[\"a\"]]", "[[1],[\"a\",1]]"},
    {"{'type':'array','not':{'contains':{'type':'integer'},'maxContains':1}}", "[[],[\"a\"],[1,2]]",
     "[[1],[\"a\",1]]"},
    {"{'items':{'enum':[1,2]},'contains':{'enum':[1,2]}}", "[[1],[2,1]]", "[[],[3]]"},
    {"{'items':{'const':1},'contains':{'const':2}}", "[{}]", "[[],[1],[2]]"},
    {"{'contains':{'const':1},'allOf':[{'contains':{'const':2}}]}", "[[1,2],[2,3,1]]",
     "[[],[1],[2]]"},
    {"{'prefixItems':[true,false]}", "[[],[1]]", "[[1,2]]"},
    {"{'items':{'not':{}},'type':'array'}", "[[]]", "[[1]]"},
    /* objects */
    {"{'properties':{'a':{'type':'integer'}}}", "[{},{\"a\":1},{\"b\":\"x\"},3]",
     "[{\"a\":\"x\"}]"},
    {"{'required':['a','b']}", "[{\"a\":1,\"b\":2},{\"b\":1,\"c\":1,\"a\":null}]",
     "[{},{\"a\":1}]"},
    {"{'properties':{'a':true},'additionalProperties':false}", "[{},{\"a\":1}]",
     "[{\"b\":1},{\"a\":1,\"b\":1}]"},
    {"{'patternProperties':{'^x':{'type':'integer'}},'additionalProperties':{'type':'string'}}",
     "[{},{\"x\":1,\"xy\":2,\"a\":\"s\"}]", "[{\"x\":\"s\"},{\"a\":1}]"},
    {"{'properties':{'xa':{'minimum':5}},'patternProperties':{'^x':{'type':'integer'},"
     "'a$':{'maximum':7}}}",
     "[{\"xa\":6},{\"x\":9},{\"a\":6.5},{\"b\":[]}]",
     "[{\"xa\":8},{\"xa\":4},{\"xa\":5.5},{\"xca\":8},{\"a\":8},{\"x\":\"s\"}]"},
    {"{'propertyNames':{'pattern':'^[a-z]+$'},'properties':{'A':true}}", "[{},{\"ab\":1}]",
     "[{\"A\":1},{\"a1\":1}]"},
    {"{'propertyNames':{'enum':['a','b']},'minProperties':2}", "[{\"a\":1,\"b\":2}]",
     "[{},{\"a\":1},{\"a\":1,\"c\":1}]"},
    {"{'propertyNames':false}", "[{},1]", "[{\"a\":1}]"},
    {"{'minProperties':1,'maxProperties':2}", "[{\"a\":1},{\"a\":1,\"b\":2}]",
     "[{},{\"a\":1,\"b\":2,\"c\":3}]"},
    {"{'dependentRequired':{'a':['b','c']}}", "[{},{\"b\":1},{\"a\":1,\"b\":1,\"c\":1}]",
     "[{\"a\":1},{\"a\":1,\"b\":2}]"},
    {"{'dependencies':{'a':['b'],'c':{'required':['d']}}}",
     "[{},{\"a\":1,\"b\":1},{\"c\":1,\"d\":1},{\"b\":1,\"d\":1}]", "[{\"a\":1},{\"c\":1}]"},
    {"{'dependentSchemas':{'a':{'properties':{'b':{'type':'integer'}}}}}",
     "[{\"b\":\"x\"},{\"a\":1,\"b\":1},{\"a\":1}]", "[{\"a\":1,\"b\":\"x\"}]"},
    {"{'dependentRequired':{'a':['b'],'b':['a']},'maxProperties':1}", "[{},{\"c\":1}]",
     "[{\"a\":1},{\"b\":1},{\"a\":1,\"b\":1}]"},
    {"{'type':'object','not':{'required':['a']}}", "[{},{\"b\":1}]", "[{\"a\":1}]"},
    {"{'type':'object','not':{'properties':{'a':{'type':'integer'}}}}", "[{\"a\":\"x\"}]",
     "[{},{\"a\":1},{\"b\":\"x\"}]"},
    {"{'type':'object','not':{'additionalProperties':{'type':'integer'},'properties':{'a':true}}}",
     "[{\"b\":\"x\"},{\"a\":1,\"c\":1,\"b\":null}]", "[{},{\"a\":\"x\"},{\"b\":1}]"},
    {"{'type':'object','not':{'patternProperties':{'^x':{'type':'integer'}}},'properties':"
     "{'xa':true,'b':true}}",
     "[{\"xa\":\"s\"},{\"xb\":\"s\"},{\"xa\":1,\"xb\":null}]", "[{},{\"xa\":1},{\"b\":\"s\"}]"},
    {"{'type':'object','not':{'propertyNames':{'pattern':'^a'}}}", "[{\"b\":1},{\"a\":1,\"cb\":1}]",
     "[{},{\"a\":1}]"},
    {"{'type':'object','not':{'additionalProperties':{'type':'integer'}},'maxProperties':1,"
     "'allOf':[{'not':{'additionalProperties':{'type':'string'}}}]}",
     "[{\"a\":null}]", "[{},{\"a\":1},{\"a\":\"s\"},{\"a\":null,\"b\":1}]"},
    {"{'type':'object','not':{'minProperties':1,'maxProperties':2}}",
     "[{},{\"a\":1,\"b\":2,\"c\":3}]", "[{\"a\":1},{\"a\":1,\"b\":2}]"},
    {"{'type':'object','not':{'dependentRequired':{'a':['b']}}}", "[{\"a\":1},{\"a\":1,\"c\":1}]",
     "[{},{\"b\":1},{\"a\":1,\"b\":1}]"},
    {"{'properties':{'a':false},'required':['a']}", "[1,[]]", "[{},{\"a\":1}]"},
    {"{'additionalProperties':false,'required':['a']}", "[1]", "[{},{\"a\":1}]"},
    {"{'patternProperties':{'^[ab]$':{'type':'integer'}},'additionalProperties':false}",
     "[{},{\"a\":1,\"b\":2}]", "[{\"a\":\"s\"},{\"c\":1}]"},
    {"{'properties':{'a~/b':{'type':'null'},'':{'type':'null'}}}", "[{\"a~/b\":null},{\"\":null}]",
     "[{\"a~/b\":1},{\"\":1}]"},
    /* combinations */
    {"{'allOf':[{'minimum':2},{'maximum':4}]}", "[2,3,4,\"x\"]", "[1,5]"},
    {"{'anyOf':[{'type':'string'},{'minimum':4,'type':'number'}]}", "[\"x\",4]", "[3,null]"},
    {"{'oneOf':[{'multipleOf':2},{'multipleOf':3}],'type':'integer'}", "[2,3,4,9]", "[1,6,0,12]"},
    {"{'oneOf':[{'required':['a']},{'required':['b']}],'type':'object'}",
     "[{\"a\":1},{\"b\":1,\"c\":1}]", "[{},{\"a\":1,\"b\":1}]"},
    {"{'oneOf':[{'properties':{'k':{'const':'x'}},'required':['k']},"
     "{'properties':{'k':{'const':'y'},'v':{'type':'integer'}},'required':['k','v']}]}",
     "[{\"k\":\"x\"},{\"k\":\"x\",\"v\":\"s\"},{\"v\":1,\"k\":\"y\"}]",
     "[{},{\"k\":\"y\"},{\"k\":\"y\",\"v\":\"s\"},{\"k\":\"z\"}]"},
    {"{'not':{'oneOf':[{'multipleOf':2},{'multipleOf':3}]},'type':'integer'}", "[1,6,0,12,5]",
     "[2,3,9]"},
    {"{'not':{'anyOf':[{'type':'string'},{'minimum':4,'type':'number'}]}}", "[3,null,{}]",
     "[\"x\",4]"},
    {"{'not':{'allOf':[{'required':['a']},{'required':['b']}]},'type':'object'}",
     "[{},{\"a\":1},{\"b\":1}]", "[{\"a\":1,\"b\":2}]"},
    {"{'not':{'not':{'type':'string'}}}", "[\"x\"]", "[1]"},
    {"{'if':{'properties':{'a':{'const':1}},'required':['a']},'then':{'required':['b']},"
     "'else':{'required':['c']}}",
     "[{\"a\":1,\"b\":1},{\"a\":2,\"c\":1},{\"c\":1}]",
     "[{},{\"a\":1},{\"a\":1,\"c\":1},{\"a\":2}]"},
    {"{'if':{'type':'string'},'then':{'minLength':2}}", "[\"ab\",1,{}]", "[\"a\"]"},
    {"{'if':{'type':'string'},'else':{'minimum':2}}", "[\"a\",2,null]", "[1]"},
    {"{'if':{'type':'string'}}", "[\"a\",2]", "[]"},
    {"{'then':{'type':'string'}}", "[\"a\",2]", "[]"},
    {"{'properties':{'a':{'type':'integer'}},'allOf':[{'properties':{'a':{'minimum':3}},"
     "'required':['a']}]}",
     "[{\"a\":3}]", "[{},{\"a\":2},{\"a\":3.5}]"},
    /* unevaluated */
    {"{'allOf':[{'properties':{'a':true}}],'properties':{'b':true},"
     "'unevaluatedProperties':false}",
     "[{},{\"a\":1,\"b\":2}]", "[{\"c\":1}]"},
    {"{'$ref':'#/$defs/x','unevaluatedProperties':{'type':'integer'},"
     "'$defs':{'x':{'patternProperties':{'^x':true}}}}",
     "[{\"xy\":\"s\",\"a\":1}]", "[{\"a\":\"s\"}]"},
    {"{'allOf':[{'prefixItems':[true,true]}],'unevaluatedItems':false}", "[[],[1,2]]", "[[1,2,3]]"},
    /* references */
    {"{'$ref':'#/$defs/a~1b','$defs':{'a/b':{'type':'integer'}}}", "[1]", "[\"x\"]"},
    {"{'$ref':'#/definitions/a%25b','definitions':{'a%b':{'type':'integer'}}}", "[1]", "[\"x\"]"},
    {"{'$ref':'#/$defs/a','minimum':3,'$defs':{'a':{'type':'integer'}}}", "[3]", "[2,3.5]"},
    {"{'$schema':'http://json-schema.org/draft-07/schema#','$ref':'#/definitions/a','minimum':3,"
     "'definitions':{'a':{'type':'integer'}}}",
     "[3,2]", "[3.5]"},
    {"{'$ref':'#x','$defs':{'a':{'$anchor':'x','type':'integer'}}}", "[1]", "[\"x\"]"},
    {"{'$id':'http://h/a/b.json','$ref':'../c.json','$defs':{'c':{'$id':'http://h/c.json',"
     "'type':'integer'}}}",
     "[1]", "[\"x\"]"},
    {"{'$id':'http://h/a','$ref':'b#/$defs/d','$defs':{'b':{'$id':'b','$defs':{'d':"
     "{'type':'integer'}}}}}",
     "[1]", "[\"x\"]"},
    {"{'$ref':'#/other/0','other':[{'type':'integer'}]}", "[1]", "[\"x\"]"},
    {"{'properties':{'a':{'$ref':'#/$defs/t'}},'$defs':{'t':true}}", "[{\"a\":1}]", "[]"},
    {"{'$dynamicRef':'#/$defs/a','$defs':{'a':{'type':'integer'}}}", "[1]", "[\"x\"]"},
    {"{'type':'object','properties':{'next':{'$ref':'#'}},'additionalProperties':false}",
     "[{},{\"next\":{\"next\":{}}}]", "[{\"next\":1},{\"next\":{\"x\":1}}]"},
    {"{'$ref':'#/$defs/tree','$defs':{'tree':{'oneOf':[{'type':'integer'},{'type':'object',"
     "'properties':{'l':{'$ref':'#/$defs/tree'},'r':{'$ref':'#/$defs/tree'}},"
     "'required':['l','r']}]}}}",
     "[1,{\"l\":1,\"r\":{\"r\":2,\"l\":3}}]", "[\"x\",{\"l\":1},{\"l\":1,\"r\":null}]"},
    /* no finite value */
    {"{'anyOf':[{'type':'null'},{'$ref':'#/$defs/a'}],'$defs':{'a':{'type':'object',"
     "'properties':{'a':{'$ref':'#/$defs/a'}},'required':['a']}}}",
     "[null]", "[{},{\"a\":{}},1]"},
    {"{'type':'array','items':{'$ref':'#/$defs/a'},'$defs':{'a':{'type':'array','minItems':1,"
     "'items':{'$ref':'#/$defs/a'}}}}",
     "[[]]", "[[[]]]"},
};

/* ' stands for " in schemas. */
static char *quoted(const char *text)
{
    char *copy = strdup(text);
    for (char *at = copy; *at != '\0'; at++)
        if (*at == '\'')
            *at = '"';
    return copy;
}

START_TEST(values_are_told_apart)
{
    const struct verdicts *t = &verdicts[_i];
    char *schema = quoted(t->schema);
    ck_assert_msg(open_schema(schema), "%s: %s", schema, err.message);
    struct membership m = {.regexes = regexes, .schemas = schemas, .err = &err, .by_value = true};
    for (int valid = 0; valid < 2; valid++) {
        json_t *list = parse(valid ? t->valid : t->invalid), *json;
        size_t i;
        json_array_foreach(list, i, json)
        {
            bool found = is_member(&m, schemas_root(schemas), json);
            ck_assert_msg(!m.failed, "%s: %s", schema, err.message);
            ck_assert_msg(found == (bool)valid, "%s: instance %zu of the %s ones", schema, i,
                          valid ? "valid" : "invalid");
            /* and the complement is one, where it can be held */
            expr not = schema_not(schemas, schemas_root(schemas));
            if (strstr(schema, "uniqueItems") != NULL)
                continue;
            bool other = is_member(&m, not, json);
            ck_assert_msg(!m.failed, "not %s: %s", schema, err.message);
            ck_assert_msg(other != (bool)valid, "not %s: instance %zu of the %s ones", schema, i,
                          valid ? "valid" : "invalid");
        }
        json_decref(list);
    }
    close_schema();
    free(schema);
}
END_TEST

static const struct refusal {
    const char *schema, *error;
} refusals[] = {
    {"{'type':'strin'}", "#/type: expected null, boolean, number, integer, string, array or object,"
                         " found strin"},
    {"{'type':7}", "#/type: expected a type's name or an array of them, found an integer"},
    {"{'properties':{'a/b~':{'pattern':7}}}",
     "#/properties/a~1b~0/pattern: expected a string, found an integer"},
    {"{'items':[{'minimum':'x'}]}", "#/items/0/minimum: expected a number, found a string"},
    {"{'items':3}", "#/items: expected a schema, found an integer"},
    {"{'allOf':{}}", "#/allOf: expected an array of schemas, found an object"},
    {"{'required':'a'}", "#/required: expected an array of strings, found a string"},
    {"{'required':[1]}", "#/required: expected strings, found an integer"},
    {"{'minItems':-1}", "#/minItems: expected an integer from 0 on, found -1"},
    {"{'minLength':1.5}", "#/minLength: expected an integer from 0 on, found 1.5"},
    {"{'multipleOf':0}", "#/multipleOf: expected a number above 0, found 0"},
    {"{'enum':1}", "#/enum: expected an array, found an integer"},
    {"{'uniqueItems':1}", "#/uniqueItems: expected true or false, found an integer"},
    {"{'properties':[]}", "#/properties: expected an object, found an array"},
    {"{'$ref':'other.json'}",
     "#/$ref: expected a reference to a schema of this document, found other.json"},
    {"{'$defs':{'a':{'$ref':'#/$defs/b'}}}",
     "#/$defs/a/$ref: expected a reference to a schema of this document, found #/$defs/b"},
    {"{'$ref':'#/x','x':{'y':1,'items':{'type':'x'}}}",
     "#/x/items/type: expected null, boolean, number, integer, string, array or object, found x"},
    {"7", "#: expected a schema, found an integer"},
};

START_TEST(wrong_schemas_are_refused_at_once)
{
    char *schema = quoted(refusals[_i].schema);
    ck_assert_msg(!open_schema(schema), "%s", schema);
    ck_assert_str_eq(err.message, refusals[_i].error);
    ck_assert_int_eq(err.code, LLAMA3_EINPUT);
    regexes_close(regexes);
    free(schema);
}
END_TEST

static const struct refusal unheld[] = {
    {"{'$ref':'#'}", "#: expected a schema that says something, found one that refers to itself "
                     "for the same value"},
    {"{'allOf':[{'$ref':'#'}]}", "#: expected a schema that says something, found one that refers "
                                 "to itself for the same value"},
    {"{'$ref':'#/$defs/a','$defs':{'a':{'$ref':'#/$defs/b'},'b':{'$ref':'#/$defs/a'}}}",
     "expected a schema that says something"},
    {"{'type':'array','uniqueItems':true}", "#: expected uniqueItems of scalars, found items that "
                                            "may be arrays or objects"},
    {"{'not':{'uniqueItems':true}}", "#/not: expected no complement of uniqueItems, found one"},
    {"{'anyOf':[{'properties':{'a':true}}],'unevaluatedProperties':false}",
     "#/anyOf: expected no schema that decides what unevaluatedProperties speaks of, found one"},
    {"{'pattern':'('}", "#/pattern: pattern, byte"},
    {"{'patternProperties':{'(':true}}", "#/patternProperties/(: pattern, byte"},
};

START_TEST(what_cannot_be_held_is_refused)
{
    char *schema = quoted(unheld[_i].schema);
    ck_assert_msg(open_schema(schema), "%s: %s", schema, err.message);
    ck_assert_ptr_null(schema_value(schemas, schemas_root(schemas), &err));
    ck_assert_msg(strstr(err.message, unheld[_i].error) != NULL, "%s: %s", schema, err.message);
    ck_assert_int_eq(err.code, LLAMA3_EINPUT);
    close_schema();
    free(schema);
}
END_TEST

/* ---- what shapes promise -------------------------------------------------------------------- */

static const struct value *value_of(const char *text)
{
    char *schema = quoted(text);
    ck_assert_msg(open_schema(schema), "%s: %s", schema, err.message);
    const struct value *value = schema_value(schemas, schemas_root(schemas), &err);
    ck_assert_msg(value != NULL, "%s: %s", schema, err.message);
    ck_assert_ptr_eq(value, schema_value(schemas, schemas_root(schemas), &err));
    free(schema);
    return value;
}

START_TEST(bounds_can_be_filled)
{
    const struct value *v = value_of("{'items':{'enum':['a','b',null]},'uniqueItems':true}");
    ck_assert_uint_eq(v->n_arrays, 1);
    ck_assert_uint_eq(v->arrays[0]->max, 3);
    ck_assert(v->arrays[0]->unique);
    close_schema();
    v = value_of("{'type':'array','items':{'enum':['a','b']},'uniqueItems':true,'minItems':3}");
    ck_assert_uint_eq(v->n_arrays, 0);
    close_schema();
    v = value_of("{'type':'array','items':{'enum':[1,1.0,2.5]},'uniqueItems':true}");
    ck_assert_uint_eq(v->arrays[0]->max, 2);
    close_schema();
    v = value_of("{'properties':{'a':true,'b':false},'additionalProperties':false}");
    ck_assert_uint_eq(v->objects[0]->n_properties, 1);
    ck_assert_uint_eq(v->objects[0]->max, 1);
    close_schema();
    v = value_of(
        "{'type':'object','required':['a','b'],'maxProperties':2,'properties':{'c':true}}");
    ck_assert_uint_eq(v->objects[0]->n_properties, 2);
    ck_assert_uint_eq(v->objects[0]->n_classes, 0);
    ck_assert_uint_eq(v->objects[0]->min, 2);
    close_schema();
    v = value_of(
        "{'type':'array','contains':{'const':1},'minContains':3,'prefixItems':[{'const':2}]}");
    ck_assert_uint_eq(v->arrays[0]->min, 4);
    close_schema();
    v = value_of("{'type':'array','items':{'const':1},'contains':{'const':1},'maxContains':2}");
    ck_assert_uint_eq(v->arrays[0]->min, 1);
    ck_assert_uint_eq(v->arrays[0]->max, 2);
    ck_assert_uint_eq(v->arrays[0]->n_contains, 0);
    close_schema();
}
END_TEST

START_TEST(properties_are_sorted_and_classes_without_them)
{
    const struct value *v =
        value_of("{'properties':{'b':true,'a':{'type':'null'},'aa':true},"
                 "'patternProperties':{'^[xy]$':{'type':'string'},'^z':{'type':'null'}}}");
    const struct object_shape *o = v->objects[0];
    const char *const keys[] = {"a", "aa", "b", "x", "y"};
    ck_assert_uint_eq(o->n_properties, 5);
    for (int i = 0; i < 5; i++)
        ck_assert_str_eq(o->properties[i].key, keys[i]);
    ck_assert_uint_eq(o->n_classes, 2);
    for (int i = 0; i < 5; i++)
        for (int k = 0; k < 2; k++)
            ck_assert(regex_and(regexes, o->classes[k].keys,
                                regex_literal(regexes, keys[i], strlen(keys[i]))) == REGEX_NONE);
    ck_assert(regex_and(regexes, o->classes[0].keys, o->classes[1].keys) == REGEX_NONE);
    close_schema();
}
END_TEST

START_TEST(integers_are_said_without_a_fraction)
{
    const struct value *v = value_of("{'type':'integer'}");
    ck_assert_uint_eq(v->number, regex_integer_text(regexes));
    ck_assert_uint_eq(v->string, REGEX_NONE);
    close_schema();
    v = value_of("{'type':'number'}");
    ck_assert_uint_eq(v->number, regex_number(regexes, true));
    close_schema();
    v = value_of("{'enum':[1.5,0,-2]}");
    ck_assert_uint_eq(regex_count(regexes, v->number, 10), 3);
    close_schema();
    v = value_of("{'type':'integer','minimum':-1,'maximum':2}");
    ck_assert_uint_eq(regex_count(regexes, v->number, 10), 4);
    close_schema();
}
END_TEST

START_TEST(unlike_values_run_out)
{
    const struct value *v = value_of("{'items':{'enum':['a',2,null]},'uniqueItems':true}");
    expr e = v->arrays[0]->rest;
    const char *const texts[] = {"\"a\"", "2.0", "null"};
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(schema_satisfiable(schemas, e, &err), 1);
        json_t *json = parse(texts[i]);
        e = schema_and(schemas, e, schema_not(schemas, schema_const(schemas, json)));
        json_decref(json);
    }
    ck_assert_int_eq(schema_satisfiable(schemas, e, &err), 0);
    close_schema();
}
END_TEST

/* ---- hostile and large ---------------------------------------------------------------------- */

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* What must end soon, whatever it says. */
static void ends(const char *schema, const char *what)
{
    double start = seconds();
    if (open_schema(schema)) {
        schema_value(schemas, schemas_root(schemas), &err);
        close_schema();
    } else {
        regexes_close(regexes);
    }
    double took = seconds() - start;
    ck_assert_msg(took < 20, "%s: %.1f s", what, took);
}

START_TEST(hostile_schemas_end)
{
    struct buf text = {0};
    char piece[256];
    /* 2^40 combinations of what must be there */
    buf_add_str(&text, "{\"allOf\":[");
    for (int i = 0; i < 40; i++) {
        snprintf(piece, sizeof piece,
                 "%s{\"anyOf\":[{\"required\":[\"a%d\"]},{\"required\":[\"b%d\"]}]}",
                 i > 0 ? "," : "", i, i);
        buf_add_str(&text, piece);
    }
    buf_add_str(&text, "]}");
    ends(text.data, "allOf of anyOf");
    buf_clear(&text);
    buf_add_str(&text, "{\"oneOf\":[");
    for (int i = 0; i < 300; i++) {
        snprintf(piece, sizeof piece, "%s{\"properties\":{\"p%d\":{\"minLength\":%d}}}",
                 i > 0 ? "," : "", i, i);
        buf_add_str(&text, piece);
    }
    buf_add_str(&text, "]}");
    ends(text.data, "oneOf");
    /* a chain of references without end in required parts, and one that never repeats */
    buf_clear(&text);
    buf_add_str(&text, "{\"$ref\":\"#/$defs/d0\",\"$defs\":{");
    for (int i = 0; i < 20000; i++) {
        snprintf(
            piece, sizeof piece,
            "\"d%d\":{\"type\":\"object\",\"required\":[\"a\"],\"properties\":{\"a\":{\"$ref\":"
            "\"#/$defs/d%d\"}}},",
            i, i + 1);
        buf_add_str(&text, piece);
    }
    buf_add_str(&text, "\"d20000\":true}}");
    ends(text.data, "chain");
    buf_clear(&text);
    buf_add_str(&text, "{\"$ref\":\"#/$defs/d0\",\"$defs\":{");
    for (int i = 0; i < 20000; i++) {
        snprintf(piece, sizeof piece, "\"d%d\":{\"allOf\":[{\"$ref\":\"#/$defs/d%d\"}]},", i,
                 i + 1);
        buf_add_str(&text, piece);
    }
    buf_add_str(&text, "\"d20000\":true}}");
    ends(text.data, "allOf chain");
    ends(
        "{\"$ref\":\"#/$defs/a\",\"$defs\":{\"a\":{\"type\":\"object\",\"required\":[\"x\"],"
        "\"properties\":{\"x\":{\"allOf\":[{\"$ref\":\"#/$defs/a\"},{\"$ref\":\"#/$defs/b\"}]}}},"
        "\"b\":{\"type\":\"object\",\"required\":[\"x\"],\"properties\":{\"x\":{\"anyOf\":[{\"$ref\":"
        "\"#/$defs/b\"},{\"not\":{\"$ref\":\"#/$defs/a\"}}]}}}}}",
        "mutual recursion");
    buf_free(&text);
}
END_TEST

START_TEST(large_tool_sets_open_at_once)
{
    struct buf text = {0};
    char piece[512];
    buf_add_str(&text, "{\"anyOf\":[");
    for (int i = 0; text.size < 1 << 20 && i < 1000; i++) {
        snprintf(piece, sizeof piece,
                 "%s{\"type\":\"object\",\"properties\":{\"name\":{\"const\":\"tool_%d\"},"
                 "\"arguments\":{\"type\":\"object\",\"properties\":{",
                 i > 0 ? "," : "", i);
        buf_add_str(&text, piece);
        for (int k = 0; k < 10; k++) {
            snprintf(piece, sizeof piece,
                     "%s\"p%d\":{\"type\":\"string\",\"description\":\"What this parameter is good "
                     "for\",\"enum\":[\"a\",\"b%d\"]}",
                     k > 0 ? "," : "", k, i);
            buf_add_str(&text, piece);
        }
        buf_add_str(&text, "},\"required\":[\"p0\"],\"additionalProperties\":false}},\"required\":"
                           "[\"name\",\"arguments\"],\"additionalProperties\":false}");
    }
    buf_add_str(&text, "]}");
    json_t *root = json_parse(text.data, text.size, "test", &err);
    ck_assert_ptr_nonnull(root);
    regexes = regexes_open(64 << 20, &err);
    double start = seconds();
    schemas = schemas_open(regexes, root, &err);
    double opened = seconds() - start;
    ck_assert_msg(schemas != NULL, "%s", err.message);
    const struct value *v = schema_value(schemas, schemas_root(schemas), &err);
    double asked = seconds() - start - opened;
    ck_assert_msg(v != NULL, "%s", err.message);
    ck_assert_uint_gt(v->n_objects, 500);
    if (getenv("SCHEMA_TIMES") != NULL)
        printf("%zu bytes, %u tools: %.2f ms to open, %.2f ms for the root's value\n", text.size,
               v->n_objects, opened * 1e3, asked * 1e3);
    ck_assert_msg(opened < 1, "%.3f s",
                  opened); /* 4 ms; sanitizers and busy machines take longer */
    json_decref(root);
    buf_free(&text);
    close_schema();
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("schema");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, values_are_told_apart, 0, sizeof verdicts / sizeof *verdicts);
    tcase_add_loop_test(tests, wrong_schemas_are_refused_at_once, 0,
                        sizeof refusals / sizeof *refusals);
    tcase_add_loop_test(tests, what_cannot_be_held_is_refused, 0, sizeof unheld / sizeof *unheld);
    tcase_add_test(tests, bounds_can_be_filled);
    tcase_add_test(tests, properties_are_sorted_and_classes_without_them);
    tcase_add_test(tests, integers_are_said_without_a_fraction);
    tcase_add_test(tests, unlike_values_run_out);
    tcase_add_test(tests, hostile_schemas_end);
    tcase_add_test(tests, large_tool_sets_open_at_once);
    return run_tests("schema", tests);
}
