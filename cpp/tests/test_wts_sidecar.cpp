/// The sidecar `NAME.wts.json`: what it adds, and that it never contradicts its file in silence.

#include "catch.hpp"
#include "wts_files.hpp"

using namespace files;
using porter::ErrorCode;

namespace {
const std::string file = "3\nconv.weight 4 3f800000 40000000 40400000 40800000\nsteps 1 447a0000\nhalf 2 3fc00000 ff802000\n";

std::string entry(const std::string& name, const std::string& dtype, const std::string& shape, std::size_t count, const std::string& values,
                  const std::string& more = "") {
    return "{\"name\": \"" + name + "\", \"dtype\": \"" + dtype + "\", \"shape\": " + shape +
           ", \"stored\": \"float32\", \"count\": " + std::to_string(count) + ", \"crc32\": \"" +
           word(porter::detail::crc32(values.data(), values.size())) + "\", \"sha256\": \"" +
           porter::detail::sha256(values.data(), values.size()) + "\"" + more + "}";
}

const std::string conv = entry("conv.weight", "float32", "[2, 2]", 4, "\0\0\x80\x3f\0\0\0\x40\0\0\x40\x40\0\0\x80\x40"s);
const std::string steps = entry("steps", "int64", "[]", 1, "\0\0\x7a\x44"s);
const std::string half = entry("half", "float16", "[2]", 2, "\0\0\xc0\x3f\0\x20\x80\xff"s);

std::string document(const std::string& tensors, const std::string& more = "", const std::string& dialect = "tensorrtx") {
    return "{\"porter\": 1, \"kind\": \"wts-sidecar\", \"dialect\": \"" + dialect +
           "\", \"file\": {\"nbytes\": " + std::to_string(file.size()) + "}, \"tensors\": [" + tensors + "]" + more + "}";
}

const std::string good = document(conv + ", " + steps + ", " + half);

porter::Error with(const std::string& sidecar, const std::string& bytes = file) {
    porter::Options options;
    options.sidecar_text = sidecar;
    return fault(bytes, options);
}

/// `good` with something else in the place of `what`.
std::string changed(const std::string& what, const std::string& by) {
    std::string text = good;
    const std::size_t at = text.find(what);
    REQUIRE(at != std::string::npos);
    return text.replace(at, what.size(), by);
}
} // namespace

TEST_CASE("shapes and types come from the sidecar") {
    Folder folder;
    const std::string path = folder.write("m.wts", file);
    folder.write("m.wts.json", good);
    const porter::Weights weights = porter::load(path);
    CHECK(weights.has_sidecar());
    CHECK(weights.notices().empty());
    CHECK(weights.at("conv.weight", {2, 2}).shape_known());
    CHECK_THROWS_AS(weights.at("conv.weight", {4}), porter::WtsError);
    CHECK(weights.at("steps").shape().empty());
    CHECK(weights.at("steps").original_dtype() == "int64");
    CHECK(weights.at("steps").as<float>()[0] == 1000.0f);
    CHECK(weights.at("half").original_dtype() == "float16");
    for (const porter::Tensor& tensor : weights) {
        CHECK(tensor.crc32() == tensor.recorded_crc32());
        CHECK(tensor.sha256() == tensor.recorded_sha256());
    }
    porter::Options options;
    options.sidecar = false;
    CHECK_FALSE(porter::load(path, options).at("half").shape_known());
}

TEST_CASE("a sidecar that disagrees") {
    CHECK(with(good).code == ErrorCode::ok);
    CHECK(with(document(steps + ", " + conv + ", " + half)).code == ErrorCode::sidecar_disagrees);
    CHECK(with(document(conv + ", " + steps)).code == ErrorCode::sidecar_disagrees);
    CHECK(with(document(conv + ", " + steps + ", " + half + ", " + half)).code == ErrorCode::sidecar_disagrees);
    CHECK(with(document(conv + ", " + steps + ", " + half, "", "nvidia-v1")).code == ErrorCode::sidecar_disagrees);
    CHECK(with(changed("[2, 2], \"stored\": \"float32\", \"count\": 4", "[3], \"stored\": \"float32\", \"count\": 3")).code ==
          ErrorCode::sidecar_disagrees);
    CHECK(with(changed("\"conv.weight\"", "\"conv.kernel\"")).tensor == "conv.weight");
    const porter::Error values =
        with(good, "3\nconv.weight 4 3f800000 40000000 40400000 40800001\nsteps 1 447a0000\nhalf 2 3fc00000 ff802000\n");
    CHECK(values.code == ErrorCode::checksum_mismatch);
    CHECK(values.tensor == "conv.weight");
    CHECK(with(changed("\"int64\"", "\"bool\"")).code == ErrorCode::value_not_of_type);
    CHECK(with(changed("\"int64\"", "\"bfloat16\"")).code == ErrorCode::ok);
    CHECK(with(changed("\"float16\"", "\"bfloat16\"")).code == ErrorCode::value_not_of_type);
    porter::Options options;
    const std::string wrong = changed("\"int64\"", "\"bool\"");
    options.sidecar_text = wrong;
    options.verify = false;
    CHECK(fault(file, options).code == ErrorCode::ok);
    options.verify = true;
    options.only = {"half"};
    CHECK(fault(file, options).code == ErrorCode::ok);
    options.narrow = porter::Narrow::half; // the checksum is of the stored values
    CHECK(fault(file, options).code == ErrorCode::ok);
}

TEST_CASE("raw shapes are compared") {
    const std::string raw = "1\na 0 (1, 2) \0\0\x80\x3f\0\0\0\x40\n"s, values = "\0\0\x80\x3f\0\0\0\x40"s;
    CHECK(with(document(entry("a", "float32", "[1, 2]", 2, values), "", "nvidia-v2"), raw).code == ErrorCode::ok);
    CHECK(with(document(entry("a", "float32", "[2, 1]", 2, values), "", "nvidia-v2"), raw).code == ErrorCode::sidecar_disagrees);
}

TEST_CASE("a damaged sidecar") {
    for (const auto& [what, by] : std::vector<std::pair<std::string, std::string>>{
             {"[2, 2]", "[2, 3]"},
             {"[2, 2]", "[-2, -2]"},
             {"[2, 2]", "[2, 2.0]"},
             {"[2, 2]", "4"},
             {"[2, 2]", "[36893488147419103232, 0]"},
             {"\"count\": 4", "\"count\": true"},
             {"\"count\": 4, ", ""},
             {"\"name\": \"conv.weight\"", "\"name\": 5"},
             {"\"float32\", \"shape\"", "\"float7\", \"shape\""},
             {"\"float32\", \"shape\"", "\"complex64\", \"shape\""},
             {"\"stored\": \"float32\"", "\"stored\": []"},
             {"\"stored\": \"float32\"", "\"stored\": \"float16\""},
             {"\"crc32\": \"", "\"crc32\": \"0"},
             {"\"sha256\": \"", "\"sha256\": \"x"},
             {"\"kind\": \"wts-sidecar\", ", "\"kind\": \"wts-sidecar\", \"ties\": null, "},
             {"\"kind\": \"wts-sidecar\", ", "\"kind\": \"wts-sidecar\", \"attachments\": {\"a\": \"?\"}, "},
             {"\"name\": \"conv", "\"attributes\": [], \"name\": \"conv"},
             {"\"name\": \"conv", "\"axes\": 7, \"name\": \"conv"},
             {"\"porter\": 1, ", ""},
         }) {
        INFO(what << " -> " << by);
        const porter::Error error = with(changed(what, by));
        CHECK(porter::id(error.code) == "W201");
        CHECK_FALSE(error.hint.empty());
    }
    CHECK(with(changed("\"porter\": 1", "\"porter\": 2")).code == ErrorCode::sidecar_newer);
    CHECK(with(changed("\"porter\": 1", "\"porter\": 1.0")).code == ErrorCode::sidecar_newer);
    CHECK(with(changed("\"porter\": 1", "\"porter\": 5, \"porter\": 1")).code == ErrorCode::ok); // the last one counts
    CHECK(with(changed("\"kind\": \"wts-sidecar\", ",
                       "\"kind\": \"wts-sidecar\", \"attachments\": {\"a\": \"QUI=\"}, \"metadata\": {\"x\": NaN}, "))
              .code == ErrorCode::ok);
}

TEST_CASE("what is no JSON") {
    const auto place = [](const std::string& text) {
        const porter::Error error = with(text);
        INFO(text.substr(0, 50) << ": " << error.text());
        CHECK(error.code == ErrorCode::sidecar_damaged);
        return std::vector<std::size_t>{error.offset, error.line, error.column};
    };
    using At = std::vector<std::size_t>;
    CHECK(place("") == At{0, 1, 1});
    CHECK(place("{") == At{1, 1, 2});
    CHECK(place("[]x") == At{2, 1, 3});
    CHECK(place("{\"a\": 1,\n \"b\" 2}") == At{14, 2, 6});
    CHECK(place("[1,]") == At{3, 1, 4});
    CHECK(place("[\"\xff\"]") == At{2, 1, 3});
    CHECK(place("[\"a\nb\"]") == At{3, 1, 4});
    CHECK(place("[\"\\x\"]") == At{3, 1, 4});
    CHECK(place("[\"\\u12g4\"]") == At{3, 1, 4});
    CHECK(place("[\"abc") == At{5, 1, 6});
    CHECK(place("[01]") == At{1, 1, 2});
    CHECK(place("[1.]") == At{3, 1, 4});
    CHECK(place("[-]") == At{2, 1, 3});
    CHECK(place("[tru]") == At{1, 1, 2});
    CHECK(place(std::string(100'000, '[')) == At{500, 1, 501});
    CHECK(place(std::string(10'000, '1')) == At{0, 1, 1});
    for (const char* const foreign :
         {"{}", "[]", "3", "{\"kind\": \"other\"}", "\"wts-sidecar\"", "{\"kind\": {\"a\": [1, -2.5e+3, null]}}"}) {
        porter::Options options;
        options.sidecar_text = foreign;
        const porter::Weights weights = parse(file, options);
        CHECK_FALSE(weights.has_sidecar());
        CHECK(weights.notices().size() == 2);
    }
}

TEST_CASE("names in a sidecar") {
    const std::string bytes = "1\n\xc3\xa4\"\xf0\x9f\x98\x80\xff 1 00000000\n";
    const auto named = [](const std::string& name) { return document(entry(name, "float32", "[1]", 1, "\0\0\0\0"s)); };
    CHECK(with(named("\\u00e4\\\"\\ud83d\\ude00\\udcff"), bytes).code == ErrorCode::ok);
    CHECK(with(named("\xc3\xa4\\u0022\xf0\x9f\x98\x80\\udcff"), bytes).code == ErrorCode::ok);
    CHECK(with(named("\\u00e4\\\"\\ud83d\\ude01\\udcff"), bytes).code == ErrorCode::sidecar_disagrees);
}

TEST_CASE("every truncation and every changed byte of a sidecar is read or refused") {
    for (std::size_t length = 0; length < good.size(); ++length) {
        CHECK(with(good.substr(0, length)).code == ErrorCode::sidecar_damaged);
    }
    for (std::size_t at = 0; at < good.size(); ++at) {
        for (const char byte : {'\0', '"', '\\', '{', ']', ',', '9', 'e', '\x80'}) {
            std::string text = good;
            text[at] = byte;
            CHECK(with(text).code != ErrorCode::out_of_memory);
        }
    }
}

TEST_CASE("a sidecar that cannot be read is no sidecar that is not there") {
    Folder folder;
    const std::string path = folder.write("m.wts", file);
    const std::string beside = folder.write("m.wts.json", "");
    REQUIRE(std::remove(beside.c_str()) == 0);
    REQUIRE(::symlink("nowhere", beside.c_str()) == 0);
    const porter::Error error = porter::try_load(path).error;
    CHECK(error.code == ErrorCode::cannot_open);
    CHECK(error.path == beside);
}

TEST_CASE("narrow types know their values") {
    using porter::detail::find_element_type;
    const auto holds = [](const char* name, std::uint32_t bits, porter::DType stored = porter::DType::float32) {
        unsigned char bytes[4];
        std::memcpy(bytes, &bits, 4);
        return porter::detail::TypeCheck(*find_element_type(name), stored).first_wrong(bytes, 1) == 1;
    };
    const auto of = porter::detail::bits_of;
    CHECK(holds("float8_e4m3fn", of(448)));
    CHECK_FALSE(holds("float8_e4m3fn", of(480)));
    CHECK_FALSE(holds("float8_e4m3fn", 0x7f800000));
    CHECK(holds("float8_e4m3fnuz", of(240)));
    CHECK_FALSE(holds("float8_e4m3fnuz", 0x80000000));
    CHECK(holds("float8_e5m2", 0x7f800000));
    CHECK(holds("float8_e5m2", of(57344)));
    CHECK(holds("float8_e5m2fnuz", of(57344)));
    CHECK(holds("float8_e8m0fnu", 0x00400000));
    CHECK(holds("float8_e8m0fnu", 0x7f000000));
    CHECK_FALSE(holds("float8_e8m0fnu", of(3)));
    CHECK(holds("float6_e2m3fn", of(7.5)));
    CHECK(holds("float6_e3m2fn", of(28)));
    CHECK(holds("float4_e2m1fn", of(6)));
    CHECK_FALSE(holds("float4_e2m1fn", of(5)));
    CHECK(holds("int4", of(-8)));
    CHECK_FALSE(holds("int4", of(8)));
    CHECK_FALSE(holds("uint8", of(-1)));
    CHECK_FALSE(holds("int64", of(0.5)));
    CHECK_FALSE(holds("int64", 0x7fc00000));
    CHECK_FALSE(holds("int64", of(9223372036854775808.0f)));
    CHECK(holds("uint64", of(9223372036854775808.0f)));
    CHECK(holds("uint8", 255, porter::DType::int32));
    CHECK_FALSE(holds("uint8", 0xffffffff, porter::DType::int32));
    CHECK(holds("float16", 0x7f802000));
    CHECK_FALSE(holds("float16", 0x7f801000));
    CHECK(find_element_type("complex64") == nullptr);
}
